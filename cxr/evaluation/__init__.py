"""Measures a trained network: rows, estimates, comparisons, studies."""
