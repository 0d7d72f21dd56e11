"""Listeners: accepting sockets, and their behaviour when resources run out."""
