# -*- test-case-name: tests.service.daemon.test_notify -*-
"""
Notifies systemd (``sd_notify(3)``): ready, reloading, stopping, a line of status, and the watchdog.

Each message is one datagram to the socket in ``NOTIFY_SOCKET``. The socket is connected at once, because its
path is not reachable after ``--chroot``. Without a socket nothing is sent. Sending does not block: a message
that the socket refuses is lost, which is logged once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from portfwd.errors import reason_of
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import counted

#: Seconds between two updates of the status line, which people read in ``systemctl status``.
STATUS_INTERVAL: Final = 10.0

#: Seconds added to the drain limit for the stop timeout of systemd.
STOP_MARGIN: Final = 15.0


class Notifier:
    """
    Sends messages to systemd.

    :ivar is_connected: whether systemd gave a socket.
    """

    _log = Logger()

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """
        Connect to the socket that `environment` names, if any.

        :param environment: None for the environment of the process.
        :param monotonic: returns nanoseconds of ``CLOCK_MONOTONIC``.
        """
        environment = os.environ if environment is None else environment
        self._monotonic = monotonic
        self._failed = False
        self._status = ""
        self._socket: socket.socket | None = None
        name = environment.get("NOTIFY_SOCKET", "")
        # "@" starts an abstract name, "/" a path. "vsock:", for virtual machines, is not supported.
        if name[:1] in ("/", "@"):
            self._connect("\0" + name[1:] if name.startswith("@") else name)

    def _connect(self, name: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(name)
        except OSError as problem:
            sock.close()
            self._log.warn("systemd cannot be notified: {reason}", reason=reason_of(problem))
        else:
            self._socket = sock

    def __repr__(self) -> str:
        return f"<Notifier {'connected' if self.is_connected else 'without a socket'}>"

    @property
    def is_connected(self) -> bool:
        """See the class."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Report that a start or a reload has ended."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that a reload starts; `ready` ends it."""
        # ``Type=notify-reload`` requires the time, to distinguish this reload from an earlier one.
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={self._monotonic() // 1000}", "STATUS=reading the rules again"
        )

    def stopping(self, status: str, seconds: float) -> None:
        """
        Report that a stop starts.

        :param seconds: maximum duration. systemd waits at least so long, even if its unit has a lower limit.
        """
        self._status = status
        self._send("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Set the status line if it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Reset the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(lines).encode("utf-8", "backslashreplace"))
        except OSError as problem:
            if not self._failed:
                self._failed = True
                self._log.warn("systemd was not notified: {reason}", reason=reason_of(problem))

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """The watchdog timeout of process `pid` in seconds (``sd_watchdog_enabled(3)``); None if it has none."""
    try:
        if int(environment.get("WATCHDOG_PID", pid)) != pid:
            return None
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None


def status_of(forwarder: Forwarder) -> str:
    """The state of the forwarder in one line."""
    listeners, sessions = len(forwarder.rules), forwarder.session_count
    line = f"{counted(listeners, 'listener')}, {counted(sessions, 'session')}"
    leaving = len(forwarder.retired_rules)
    if leaving:
        line += f", {counted(leaving, 'retired rule')}"
    # Shown until a reload succeeds, because the rules in use are not those of the file.
    return f"{line}; the last reload was refused" if forwarder.last_reload_refused else line


class Heartbeat(Service):
    """
    Resets the watchdog of systemd and updates the status line at intervals.

    It continues while sessions drain, so that the watchdog does not kill the process, until `end` is called.
    """

    name = "portfwd heartbeat"

    def __init__(
        self,
        clock: IReactorTime,
        notifier: Notifier,
        forwarder: Forwarder,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """:param environment: has the watchdog timeout; None for the environment of the process."""
        self._clock = clock
        self._notifier = notifier
        self._forwarder = forwarder
        limit = watchdog_seconds(os.environ if environment is None else environment, os.getpid())
        self._watched = limit is not None
        # sd_watchdog_enabled(3): "send a keep-alive notification … every half of the time".
        self._interval = STATUS_INTERVAL if limit is None else min(STATUS_INTERVAL, limit / 2)
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Start the interval if systemd gave a socket."""
        super().startService()
        if self._notifier.is_connected:
            self._beat()

    def _beat(self) -> None:
        self._next = self._clock.callLater(self._interval, self._beat)
        if self._watched:
            self._notifier.alive()
        if self._forwarder.running:
            self._notifier.status(status_of(self._forwarder))

    def end(self) -> None:
        """Stop the interval and close the socket."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._notifier.close()
