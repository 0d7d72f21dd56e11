"""Streams, the two sides of a session, with one small interface: read, write, end, abort."""
