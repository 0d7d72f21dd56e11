"""Streams of datagrams."""
