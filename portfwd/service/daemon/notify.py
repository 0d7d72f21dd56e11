# -*- test-case-name: tests.service.daemon.test_notify -*-
"""
What systemd is told (``sd_notify(3)``): ready, reloading, stopping, a line of status, and that we live.

One datagram for each message, to the socket that ``NOTIFY_SOCKET`` names; it is
connected at once, because after ``--chroot`` its name leads nowhere. Without such
a socket nothing is sent. It refuses to wait: a message that the socket does
not take is lost, and the log says so once.
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

#: Seconds between two looks whether the status has changed: ``systemctl status`` is for people.
STATUS_INTERVAL: Final = 10.0

#: Seconds beyond the drain deadline until systemd may think that a stop hangs.
STOP_MARGIN: Final = 15.0


class Notifier:
    """
    Sends messages to systemd.

    :ivar listens: whether there is somebody to tell.
    """

    _log = Logger()

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """
        Connect to the socket that `environment` names, if it does.

        :param environment: None for the process's.
        :param monotonic: nanoseconds of ``CLOCK_MONOTONIC``.
        """
        environment = os.environ if environment is None else environment
        self._monotonic = monotonic
        self._failed = False
        self._status = ""
        self._socket: socket.socket | None = None
        name = environment.get("NOTIFY_SOCKET", "")
        # "@" for an abstract name, else a path; vsock: is for virtual machines.
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
        return f"<Notifier {'listened to' if self.listens else 'alone'}>"

    @property
    def listens(self) -> bool:
        """See the class."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """A start or a reload is over."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        # ``Type=notify-reload`` wants the time, to tell this reload from an earlier one.
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={self._monotonic() // 1000}", "STATUS=reading the rules again"
        )

    def stopping(self, status: str, seconds: float) -> None:
        """
        A stop begins.

        :param seconds: how long it may take; systemd waits at least so long, whatever its unit says.
        """
        self._status = status
        self._send("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Say `text` to whoever asks systemd; nothing is sent for what it knows already."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The reactor runs: the watchdog has nothing to fear."""
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
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """How often systemd wants to hear that process `pid` lives (``sd_watchdog_enabled(3)``); None: never."""
    try:
        if int(environment.get("WATCHDOG_PID", pid)) != pid:
            return None
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None


def status_of(forwarder: Forwarder) -> str:
    """The forwarder in one line."""
    listeners, sessions = len(forwarder.rules), forwarder.session_count
    line = f"{counted(listeners, 'listener')}, {counted(sessions, 'session')}"
    leaving = len(forwarder.retired_rules)
    if leaving:
        line += f", {leaving} of old rules leaving"
    # Until one succeeds: the rules at work are not those of the file.
    return f"{line}; the last reload was refused" if forwarder.last_reload_refused else line


class Heartbeat(Service):
    """
    Tells systemd from time to time that the reactor runs, and how many sessions there are.

    It goes on while sessions drain, or the watchdog would bite: its end is `end`.
    """

    name = "portfwd heartbeat"

    def __init__(
        self,
        clock: IReactorTime,
        notifier: Notifier,
        forwarder: Forwarder,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """:param environment: where the watchdog's time stands; None for the process's."""
        self._clock = clock
        self._notifier = notifier
        self._forwarder = forwarder
        limit = watchdog_seconds(os.environ if environment is None else environment, os.getpid())
        self._watched = limit is not None
        # sd_watchdog_enabled(3): "send a keep-alive notification … every half of the time".
        self._interval = STATUS_INTERVAL if limit is None else min(STATUS_INTERVAL, limit / 2)
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Beat, if there is somebody to hear it."""
        super().startService()
        if self._notifier.listens:
            self._beat()

    def _beat(self) -> None:
        self._next = self._clock.callLater(self._interval, self._beat)
        if self._watched:
            self._notifier.alive()
        if self._forwarder.running:
            self._notifier.status(status_of(self._forwarder))

    def end(self) -> None:
        """Beat no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._notifier.close()
