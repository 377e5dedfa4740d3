"""Attacks on one film as functions of a loss; no model, no config."""
