"""Questions about a ruleset: explain, diff, render."""
