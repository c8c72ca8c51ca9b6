"""Where writes go: fds, no event loop."""
