"""The trained networks that come with the code, and how to name them."""
