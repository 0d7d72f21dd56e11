# -*- test-case-name: tests.test_package -*-
"""The version of the package. Imports nothing, so every module may import it."""

__version__ = "0.1.0.dev0"
