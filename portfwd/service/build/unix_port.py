# -*- test-case-name: tests.service.build.test_unix_port -*-
"""
The unix socket of an endpoint of Twisted, with a file that can be moved aside.

Twisted's port removes the file at its path when it closes, one turn of the reactor later. During a reload the
path may belong to another socket by then; and if the file was removed before, the port would stay open. This
class handles the file like that of portfwd's sockets: it gets another name while its successor is bound, and
only this file is removed.
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
    A port of Twisted with its file. Other attributes are those of the port.

    :ivar file: the file. Its name and the lock of Twisted are moved together.
    """

    def __init__(self, port: Any, file: SocketFile) -> None:
        self.file = file
        self._port = port

    def __repr__(self) -> str:
        return f"<UnixPort {self.file.path}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def startListening(self) -> None:
        """Do nothing: it is listening already."""

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
            with contextlib.suppress(OSError, ValueError):  # removed, or another socket's
                lock.unlock()

    def stopListening(self) -> Deferred[None]:
        """Close the socket and remove its file at once."""
        if self._port.connected:
            self._port.stopReading()
            self.file.remove()
            self._unlock()
            # The other steps of the port's own method.
            Port.connectionLost(self._port, Failure(CONNECTION_DONE))
        return succeed(None)


def with_file(port: IListeningPort) -> IListeningPort:
    """Return `port`, or a `UnixPort` for a unix socket with a file."""
    sock = getattr(port, "socket", None)
    if isinstance(sock, socket.socket) and isinstance(port.getHost(), UNIXAddress) and isinstance(port, Port):
        file = socket_file(sock)
        if file is not None:
            return UnixPort(port, file)
    return port
