"""Tests of the lab: its arithmetic, its readers of other programs, and that it cleans up."""
