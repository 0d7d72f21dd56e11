# -*- test-case-name: tests.cli.test_entry -*-
"""
The entry point of the installed ``portfwd``.

``portfwd complete`` runs at each Tab in a shell, so it imports only the modules that it needs.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of the process; return the exit code."""
    if sys.argv[1:2] == ["complete"] and len(sys.argv) == 3:
        from portfwd.cli.completing import KINDS, print_words

        if sys.argv[2] in KINDS:
            return print_words(sys.argv[2])
    from portfwd.cli.main import main as whole

    return whole()
