"""Children, their groups and our own standard streams: fds and system calls, no event loop."""
