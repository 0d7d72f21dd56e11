"""Counters of sessions, the names of metrics, and their exposition for Prometheus."""
