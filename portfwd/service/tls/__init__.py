"""Reads, checks and renews certificates and TLS settings of listeners and targets."""
