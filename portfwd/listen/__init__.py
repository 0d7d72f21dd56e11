"""Sockets that accept, and how they behave when something runs out."""
