"""Statistics of predictions and their intervals; numpy and scipy alone."""
