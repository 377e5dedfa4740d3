"""The min-max step and the loop around it."""
