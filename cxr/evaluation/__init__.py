"""The evaluation of one trained network: its parts, tables, record and page."""
