"""Films on disk -> batches of arrays; the only home of TensorFlow."""
