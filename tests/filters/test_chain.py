"""Tests for `portfwd.filters.chain`."""
