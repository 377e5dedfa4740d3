"""Several evaluated runs beside each other: --mode=compare, --mode=study."""
