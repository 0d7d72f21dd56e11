"""Streams and flows over plain sockets in the poller (Linux): copied, spliced, paced, watched."""
