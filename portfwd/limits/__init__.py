"""Limits: connection caps, token buckets, budgets. Pure; time is an argument."""
