"""What is counted, what it is called, and how Prometheus is told."""
