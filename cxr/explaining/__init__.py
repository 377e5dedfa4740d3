"""Reads, predicts and explains a user's own films."""
