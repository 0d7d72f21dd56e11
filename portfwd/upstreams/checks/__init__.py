"""Checks of targets: one file for each protocol, without I/O."""
