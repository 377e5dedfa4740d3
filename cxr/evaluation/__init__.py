"""Measures a trained network: rows, figures, comparisons, studies."""
