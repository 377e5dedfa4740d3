"""Measures: what is said of films, maps and networks beside logits and boxes.

Each measure is rows of measures.csv, of one film each.
"""
