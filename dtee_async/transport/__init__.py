"""How writes reach us: fds and system calls, no event loop."""
