# -*- test-case-name: tests.service.daemon.test_signals -*-
"""
What signals mean to a forwarder under twistd.

twistd's own handlers do not fit: SIGTERM ends with status 143 and a second one
does nothing; SIGHUP kills. These are put in their place once the reactor runs,
because it installs its own at that moment. Signals that come in between wait in
the kernel: each finds the handler that it should.

- SIGTERM, SIGINT: accept no more, let sessions finish, exit 0; a second one cuts them, and ends the process
  even if something that should stop does not.
- SIGHUP: the rules file is read again.
- SIGUSR1: logs are opened again, twistd's own too.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from twisted.application.service import Service
from twisted.logger import Logger

from portfwd.kernel.reactor import Reactor
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason, counted

#: What is taken over.
TAKEN: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Signals(Service):
    """Turns signals into calls, in the reactor's own thread of control."""

    name = "portfwd signals"

    def __init__(
        self,
        reactor: Reactor,
        forwarder: Forwarder,
        reopen_logs: Callable[[], None],
        reload: Callable[[], object],
        hurry: Callable[[], object],
    ) -> None:
        """
        :param reload: begins a reload, and tells the log what came of it.
        :param hurry: is called at the second signal to stop, in its handler: ends the process after a while
            if nothing else does.
        """
        self._hurry = hurry
        self._asked_to_stop = 0
        self._reactor = reactor
        self._begin_reload = reload
        self._forwarder = forwarder
        self._reopen_logs = reopen_logs
        self._stopping = False
        self._log = Logger()

    def startService(self) -> None:
        """Take the signals over as soon as the reactor runs."""
        super().startService()
        self._hold(True)
        self._reactor.callWhenRunning(self._install)

    def _hold(self, held: bool) -> None:
        """Let the signals wait in the kernel, or come."""
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            numbers = {getattr(signal, name) for name in TAKEN}
            signal.pthread_sigmask(signal.SIG_BLOCK if held else signal.SIG_UNBLOCK, numbers)

    def _install(self) -> None:
        self._take("SIGINT", self.stop, stops=True)
        self._take("SIGTERM", self.stop, stops=True)
        self._take("SIGHUP", self.reload)
        self._take("SIGUSR1", self.reopen, keep=True)
        # Twisted puts the old handlers back when the reactor ends; a signal that comes then must not kill.
        # But nothing that is left to be done may take for ever either.
        self._reactor.addSystemEventTrigger("after", "shutdown", self._hold, True)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._hurry)
        self._hold(False)

    def _take(self, name: str, call: Callable[[], None], *, keep: bool = False, stops: bool = False) -> None:
        number = getattr(signal, name, None)  # Windows lacks two of them
        if number is None:
            return
        before = signal.getsignal(number)

        def arrived(received: int, frame: FrameType | None) -> None:
            if keep and callable(before):
                before(received, frame)
            if stops:
                # Counted here: the reactor may never come to what it is asked to call.
                self._asked_to_stop += 1
                if self._asked_to_stop == 2:
                    self._hurry()
            self._reactor.callFromThread(call)

        signal.signal(number, arrived)

    def stop(self) -> None:
        """Drain and exit; the second time: cut."""
        if self._stopping:
            self._log.info(
                "stopping at once: {count} cut", count=counted(self._forwarder.session_count, "session")
            )
            self._forwarder.cut(CloseReason.KILLED)
        else:
            self._stopping = True
            self._reactor.stop()

    def reload(self) -> None:
        """Read the rules again, unless the process is stopping."""
        if self._stopping:
            self._log.info("SIGHUP ignored: stopping")
        else:
            self._begin_reload()

    def reopen(self) -> None:
        """Open the access log again."""
        self._log.info("logs are opened again")
        self._reopen_logs()
