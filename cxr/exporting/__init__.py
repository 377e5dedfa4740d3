"""Writes what a run knows in the formats of other tools."""
