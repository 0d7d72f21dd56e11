"""Functions that answer questions about a ruleset: explain, diff, render."""
