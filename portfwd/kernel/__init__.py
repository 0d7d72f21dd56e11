"""
The interface to the operating system: sockets and their options, pipes, the edge-triggered poller.

`Platform` finds once, at start, which facilities the system has; all other packages ask it.
"""
