"""From a heat map to boxes, and to scores against true boxes; arrays alone."""
