"""
The contestants, one file each, and the list of them.

A peer knows how to write its configuration, what to start, and which counters
it can show. It measures nothing itself.
"""
