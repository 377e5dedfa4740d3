"""Adversarially robust chest x-ray classifiers and their interpretability."""
