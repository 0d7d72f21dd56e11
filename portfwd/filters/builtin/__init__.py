"""The built-in filters, one file each, and their common parts."""
