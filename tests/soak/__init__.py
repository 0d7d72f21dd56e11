"""
A soak: random sessions of every kind for a long time, while operators do all that they can.

``python -m tests.soak --minutes 60``. At the end everything must be as it was at the beginning (memory,
objects, descriptors, pipes, timers, gauges), and log lines, sessions and metrics must agree.
"""
