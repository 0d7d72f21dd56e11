"""Certificates and TLS settings of listeners and targets: read, judged, renewed."""
