"""Tests of `portfwd.rules`."""
