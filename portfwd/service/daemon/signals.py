# -*- test-case-name: tests.service.daemon.test_signals -*-
"""
Signal handlers of a forwarder under twistd.

twistd's handlers are not suitable: after SIGTERM the exit status is 143, a second SIGTERM does nothing, and
SIGHUP ends the process. The handlers of this module replace them when the reactor runs, because the reactor
installs its own ones at its start. Until then the signals are blocked, so the kernel delivers them to the
right handler.

- SIGTERM, SIGINT: stop accepting, let sessions finish, exit with 0. A second one resets the sessions, and
  ends the process even if a part of it does not stop.
- SIGHUP: read the rules file again.
- SIGUSR1: reopen the logs, including twistd's log.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

from twisted.application.service import Service
from twisted.logger import Logger

from portfwd.kernel.reactor import Reactor
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason, counted

#: The handled signals.
TAKEN: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Signals(Service):
    """Turns signals into calls in the reactor thread."""

    name = "portfwd signals"

    def __init__(
        self,
        reactor: Reactor,
        forwarder: Forwarder,
        reopen_logs: Callable[[], None],
        reload: Callable[[], object],
        force_exit: Callable[[], object],
    ) -> None:
        """
        :param reload: starts a reload, and logs its result.
        :param force_exit: called in the signal handler of the second signal to stop, and at the end of the
            reactor; it ends the process after a delay if it still runs.
        """
        self._force_exit = force_exit
        self._stop_signals = 0
        self._reactor = reactor
        self._begin_reload = reload
        self._forwarder = forwarder
        self._reopen_logs = reopen_logs
        self._stopping = False
        self._log = Logger()

    def startService(self) -> None:
        """Block the signals, and install the handlers when the reactor runs."""
        super().startService()
        self._block(True)
        self._reactor.callWhenRunning(self._install)

    def _block(self, blocked: bool) -> None:
        """Block or unblock the signals."""
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            numbers = {getattr(signal, name) for name in TAKEN}
            signal.pthread_sigmask(signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, numbers)

    def _install(self) -> None:
        for name in ("SIGINT", "SIGTERM"):
            self._take(name, partial(self.stop, name), stops=True)
        self._take("SIGHUP", self.reload)
        self._take("SIGUSR1", self.reopen, keep=True)
        # Twisted restores the old handlers when the reactor ends. From then on signals are blocked, because
        # the old handlers would kill the process. The rest of the exit has a time limit instead.
        self._reactor.addSystemEventTrigger("after", "shutdown", self._block, True)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._force_exit)
        self._block(False)

    def _take(self, name: str, call: Callable[[], None], *, keep: bool = False, stops: bool = False) -> None:
        number = getattr(signal, name, None)  # Windows lacks two of them
        if number is None:
            return
        before = signal.getsignal(number)

        def arrived(received: int, frame: FrameType | None) -> None:
            if keep and callable(before):
                before(received, frame)
            if stops:
                # Counted here, because a blocked reactor would not run `call`.
                self._stop_signals += 1
                if self._stop_signals == 2:
                    self._force_exit()
            self._reactor.callFromThread(call)

        signal.signal(number, arrived)

    def stop(self, cause: str = "stop") -> None:
        """
        Drain and exit. The second call resets the sessions.

        :param cause: the signal, or the command, for the log.
        """
        if self._stopping:
            self._log.info(
                "{cause}: stopping at once: {count} reset",
                cause=cause,
                count=counted(self._forwarder.session_count, "session"),
            )
            self._forwarder.cut(CloseReason.KILLED)
        else:
            self._stopping = True
            self._log.info(
                "{cause}: stopping, {count} open",
                cause=cause,
                count=counted(self._forwarder.session_count, "session"),
            )
            self._reactor.stop()

    def reload(self) -> None:
        """Read the rules again, unless the process is stopping."""
        if self._stopping:
            self._log.info("SIGHUP ignored: stopping")
        else:
            self._begin_reload()

    def reopen(self) -> None:
        """Reopen the access log."""
        self._log.info("logs are reopened")
        self._reopen_logs()
