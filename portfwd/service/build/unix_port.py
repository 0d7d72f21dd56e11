# -*- test-case-name: tests.service.build.test_unix_port -*-
"""
A unix socket that an endpoint of Twisted's listens on, with a file that can step aside.

Twisted's port removes whatever has its path when it closes, one turn of the reactor later. In a reload the
path may belong to another socket by then, and where the file was removed before, the port would stay open. So
the file is looked after here, as that of a socket of ours is: it may have another name while a socket that
takes its place is bound, and only this file is removed.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Port
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.listen.unix_files import SocketFile, socket_file


@implementer(IListeningPort)
class UnixPort:
    """
    One of Twisted's ports, and its file; what is not here is the port's own.

    :ivar file: the file, which leaves its name and takes it back with the lock that Twisted made for it.
    """

    def __init__(self, port: Any, file: SocketFile) -> None:
        self.file = file
        self._port = port

    def __repr__(self) -> str:
        return f"<UnixPort {self.file.path}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def startListening(self) -> None:
        """It does already."""

    def getHost(self) -> Any:
        """See `IListeningPort`."""
        return self._port.getHost()

    def step_aside(self) -> None:
        """
        See `SocketFile.step_aside`.

        :raises OSError: the directory does not let it.
        """
        self.file.step_aside(self._port.socket)
        self._unlock()

    def step_back(self) -> None:
        """
        See `SocketFile.step_back`.

        :raises OSError: somebody else took the name.
        """
        self.file.step_back(self._port.socket)
        if self._port.lockFile is not None:
            self._port.lockFile.lock()

    def _unlock(self) -> None:
        lock = self._port.lockFile
        if lock is not None and lock.locked:
            with contextlib.suppress(OSError, ValueError):  # somebody removed it, or has it by now
                lock.unlock()

    def stopListening(self) -> Deferred[None]:
        """Close the socket and remove its file, both at once."""
        if self._port.connected:
            self._port.stopReading()
            self.file.remove()
            self._unlock()
            # What the port's own method does besides is done here.
            Port.connectionLost(self._port, Failure(CONNECTION_DONE))
        return succeed(None)


def with_file(port: IListeningPort) -> IListeningPort:
    """`port`, or a `UnixPort` if it is a unix socket with a file."""
    sock = getattr(port, "socket", None)
    if isinstance(sock, socket.socket) and isinstance(port.getHost(), UNIXAddress) and isinstance(port, Port):
        file = socket_file(sock)
        if file is not None:
            return UnixPort(port, file)
    return port
