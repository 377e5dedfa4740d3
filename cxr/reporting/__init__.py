"""Shows results as pages, tables and figures."""
