"""Streams and flows over sockets of our own (Linux): copied, spliced, paced, watched."""
