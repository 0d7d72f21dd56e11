"""Makes listeners, targets, filters and streams from the values of rules."""
