# -*- test-case-name: tests.cli.test_entry -*-
"""
The entry point of the installed ``portfwd``.

``portfwd complete`` runs at each Tab in a shell, so it imports only the modules that it needs.

``portfwd run`` must not be ended by a HUP or USR1 while its modules are imported: a script that reloads the
forwarder or rotates its logs may run at the same time, when the machine boots.
"""

from __future__ import annotations

import signal
import sys


def hold_signals() -> None:
    """
    Block HUP and USR1 until the handlers of `portfwd.service.daemon.signals` are installed.

    An INT ends the process without a traceback until then.
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Run the command line of the process; return the exit code."""
    if sys.argv[1:2] == ["run"]:
        hold_signals()
    if sys.argv[1:2] == ["complete"] and len(sys.argv) == 3:
        from portfwd.cli.completing import KINDS, print_words

        if sys.argv[2] in KINDS:
            return print_words(sys.argv[2])
    from portfwd.cli.main import main as whole

    return whole()
