"""
What only the kernel knows: socket options, descriptor limits, the edge-triggered poller.

What a platform lacks is found here, once, and everybody else asks `Platform`.
"""
