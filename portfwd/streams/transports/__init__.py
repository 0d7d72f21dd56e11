"""Streams over Twisted transports, and TLS over any stream."""
