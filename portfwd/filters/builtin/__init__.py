"""The built-in filters, one file each, and what several of them share."""
