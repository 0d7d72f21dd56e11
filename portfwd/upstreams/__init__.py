"""Targets and how they are reached: pools, balancing, health, checks, names and connects."""
