"""The web listener of operators: bounded HTTP connections, access control, an API, and a page."""
