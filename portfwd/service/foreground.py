# -*- test-case-name: tests.service.test_foreground -*-
"""
``portfwd run``: runs a forwarder in the foreground, without ``twistd`` in the path.

It runs twistd's code with ``-n --pidfile=`` and the options of `portfwd.service.tap`. The only service is
portfwd, so it imports no plug-ins of other packages and writes no plug-in cache. It cannot run as a daemon,
change the user or the root, or use another reactor; ``twistd portfwd`` can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

from portfwd.service.tap import ForwarderOptions

MAKER = ServiceMaker("portfwd", "portfwd.service.tap", "Forward ports by a rules file.", "portfwd")


class ForegroundOptions(ServerOptions):
    """twistd's options with portfwd as the only service."""

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Callable[[], ForwarderOptions], str]]:
        """See `twisted.python.usage.Options`: name, short name, options and description of portfwd."""
        self.loadedPlugins = {MAKER.tapname: MAKER}
        yield MAKER.tapname, None, ForwarderOptions, MAKER.description


def run_in_foreground(words: Sequence[str], run: Callable[[Any], object] = runApp) -> None:
    """
    Run until a signal ends it.

    :param words: options of ``twistd portfwd``.
    :param run: runs the application that the options describe.
    :raises twisted.python.usage.UsageError: the options are wrong.
    :raises SystemExit: the start failed.
    """
    options = ForegroundOptions()
    options.parseOptions(["--nodaemon", "--pidfile=", MAKER.tapname, *words])
    run(options)
