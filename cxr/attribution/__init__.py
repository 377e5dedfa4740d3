"""Maps of where a network looks; functions of arrays and of a score."""
