"""Work that may be interrupted."""
