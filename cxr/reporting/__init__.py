"""Shows figures as pages, tables and pictures."""
