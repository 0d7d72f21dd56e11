"""Unix sockets of Twisted's, whose files can step aside."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from portfwd.listen.unix_files import bind_unix
from portfwd.rules.model import ListenOptions
from portfwd.service.build.unix_port import UnixPort, with_file
from portfwd.values import UnixAddress


class UnixPortTests(TestCase):
    """A port that listens."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = f"{self.directory}/s"
        self.reactor: Any = reactor

    def listen(self, path: str = "", *, lock: bool = True) -> UnixPort:
        """Twisted's, and its file."""
        made = with_file(self.reactor.listenUNIX(path or self.path, Factory(), wantPID=lock))
        self.addCleanup(made.stopListening)
        return cast(UnixPort, made)

    def files(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.directory))

    def test_interface(self) -> None:
        """It is a port as any of Twisted's."""
        port = self.listen()
        verifyObject(IListeningPort, port)
        port.startListening()
        self.assertEqual((port.getHost().name, repr(port)), (self.path.encode(), f"<UnixPort {self.path}>"))

    def test_closed_at_once(self) -> None:
        """The socket is closed, and its file gone, when `stopListening` returns; a second call is fine."""
        for lock in (True, False):
            port = self.listen(lock=lock)
            for _ in range(2):
                self.successResultOf(port.stopListening())
                self.assertEqual(self.files(), [])

    def test_aside(self) -> None:
        """Another socket may have path and lock meanwhile; they come back."""
        port = self.listen()
        port.step_aside()
        other = bind_unix(UnixAddress(self.path), ListenOptions())
        os.unlink(self.path)
        other.close()
        port.step_back()
        self.assertEqual(self.files(), ["s", "s.lock"])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)

    def test_closed_aside(self) -> None:
        """What another socket has taken stays when the port is closed."""
        port = self.listen(lock=False)
        port.step_aside()
        other = bind_unix(UnixAddress(self.path), ListenOptions())
        self.addCleanup(other.close)
        port.stopListening()
        self.assertEqual(self.files(), ["s", "s.lock"])

    def test_removed(self) -> None:
        """A port whose file or lock somebody removed is closed all the same."""
        port = self.listen()
        os.unlink(self.path)
        os.unlink(f"{self.path}.lock")
        self.assertTrue(port.file.is_gone)
        port.stopListening()
        self.assertFalse(port.connected)

    def test_others(self) -> None:
        """Ports without a file stay as they are."""
        for made in (
            self.reactor.listenTCP(0, Factory(), interface="127.0.0.1"),
            self.reactor.listenUNIX(f"\0{self.path}", Factory()),
        ):
            self.addCleanup(made.stopListening)
            self.assertIs(with_file(made), made)
