# -*- test-case-name: tests.cli.test_entry -*-
"""
What the installed ``portfwd`` calls: the command line, or only the words that a shell asks for.

A shell asks while somebody waits for Tab, so ``portfwd complete`` imports only what it needs.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the process's command line; the exit code."""
    if sys.argv[1:2] == ["complete"] and len(sys.argv) == 3:
        from portfwd.cli.completing import KINDS, print_words

        if sys.argv[2] in KINDS:
            return print_words(sys.argv[2])
    from portfwd.cli.main import main as whole

    return whole()
