"""Training: the adversarial step, the loop around it, and what watches it."""
