"""Clients of a chaos run: one socket each, which asks and gets its question back."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

#: Seconds for an answer: far longer than any takes.
TIMEOUT = 20.0


class Client:
    """One client, whatever its socket."""

    def __init__(self, number: int, kind: str, address: tuple[str, int] | str, directory: Path) -> None:
        """
        Connect, or send what begins an association.

        :param address: host and port, or the path of a unix socket.
        :raises OSError: nobody listens.
        """
        self.number = number
        self.kind = kind
        self.is_datagrams = kind in ("udp", "unix-dgram")
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._own: str | None = None
        self._asked = self._answers = 0
        self._waits_for = b""
        self._shaken = not kind.startswith("tls")
        self._sock = socket.socket(family, socket.SOCK_DGRAM if self.is_datagrams else socket.SOCK_STREAM)
        try:
            self._sock.settimeout(TIMEOUT)
            if kind == "unix-dgram":
                self._own = f"{directory}/client-{number}"
                self._sock.bind(self._own)
            self._sock.connect(address)
            if self.is_datagrams:
                self.ask()
        except OSError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Client {self.number} {self.kind}>"

    def ask(self) -> None:
        """Send a question."""
        self._asked += 1
        self._waits_for = f"{self.number}:{self._asked};".encode()
        self._sock.sendall(self._waits_for)

    def answered(self) -> None:
        """
        Wait for the answer to the last question.

        :raises OSError, AssertionError: there is none.
        """
        while True:
            data = self._sock.recv(100)
            if data == self._waits_for:
                self._answers += 1
                return
            if not self.is_datagrams or not data:
                raise AssertionError(f"{self}: {data!r} is no answer to {self._waits_for!r}")

    @property
    def is_asking(self) -> bool:
        """Whether the question that began an association has no answer yet."""
        return self.is_datagrams and self._asked == 1 and not self._answers

    def converse(self) -> None:
        """Ask, and get the answer."""
        self.shake()
        self.ask()
        self.answered()

    def shake(self) -> None:
        """Speak TLS, if that is to be spoken."""
        if not self._shaken:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._sock = context.wrap_socket(self._sock)
            self._shaken = True

    def certificate(self) -> bytes:
        """What the server has shown."""
        assert isinstance(self._sock, ssl.SSLSocket)
        return self._sock.getpeercert(True) or b""

    def is_turned_away(self) -> bool:
        """Whether the other side ends or resets the connection now."""
        try:
            self.shake()
            return not self._sock.recv(100)
        except TimeoutError:
            return False
        except OSError:
            return True

    def leave(self) -> None:
        """End in order."""
        if not self.is_datagrams:
            try:
                if isinstance(self._sock, ssl.SSLSocket):
                    self._sock = self._sock.unwrap()
                self._sock.shutdown(socket.SHUT_WR)
                while self._sock.recv(100):
                    pass
            except OSError:
                pass
        self.close()

    def close(self) -> None:
        """Be gone."""
        self._sock.close()
        if self._own is not None and os.path.exists(self._own):
            os.unlink(self._own)
