"""Where a session may go: names, connections."""
