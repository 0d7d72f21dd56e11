# -*- test-case-name: tests.service.test_foreground -*-
"""
``portfwd run``: a forwarder in the foreground, without a ``twistd`` on the path.

It runs twistd's code with ``-n --pidfile=`` and the options of `portfwd.service.tap`. It knows only our own
service, so it imports no plug-in of other packages and writes no cache of plug-ins. It makes no daemon,
changes no user and no root and takes no other reactor: ``twistd portfwd`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

from portfwd.service.tap import ForwarderOptions

MAKER = ServiceMaker("portfwd", "portfwd.service.tap", "Forward ports by a rules file.", "portfwd")


class ForegroundOptions(ServerOptions):
    """twistd's options, with one service to run."""

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Callable[[], ForwarderOptions], str]]:
        """Name, short name, options and description of portfwd."""
        self.loadedPlugins = {MAKER.tapname: MAKER}
        yield MAKER.tapname, None, ForwarderOptions, MAKER.description


def run_in_foreground(words: Sequence[str], run: Callable[[Any], object] = runApp) -> None:
    """
    Forward until a signal ends it.

    :param words: options of ``twistd portfwd``.
    :param run: runs what the options describe.
    :raises twisted.python.usage.UsageError: for wrong options.
    :raises SystemExit: if nothing was started.
    """
    options = ForegroundOptions()
    options.parseOptions(["--nodaemon", "--pidfile=", MAKER.tapname, *words])
    run(options)
