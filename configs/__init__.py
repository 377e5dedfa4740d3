"""Configs: records of what was run, and the question each answers."""
