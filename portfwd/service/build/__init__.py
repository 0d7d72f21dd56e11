"""From rule values to listeners, targets, filters and streams."""
