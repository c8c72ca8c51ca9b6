"""Values, contracts and arithmetic: no fd, no clock, no loop."""
