"""One command on one loop: spawn, capture, exit, drain, close; callbacks only."""
