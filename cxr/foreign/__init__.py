"""What comes from elsewhere: weights to be evaluated, maps to be scored."""
