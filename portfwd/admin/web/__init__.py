"""The web listener of operators: bounded HTTP connections, who may ask, an API, and a page."""
