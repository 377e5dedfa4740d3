"""What is made of maps of films with true boxes, whatever their origin.

The rows of boxes.csv, the controls beside them, the report's examples, and the
coarse copies that a study compares.
"""
