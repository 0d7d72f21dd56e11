"""Tests for the program that keeps TLS connections open."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from bench.loads import kept
from tests.streams.tls_peers import server_context


class FetcherTests(SynchronousTestCase):
    """A server of one answer."""

    def serve(self, *bodies: bytes) -> int:
        """A TLS server that answers one connection with each of these and waits for its end; its port."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def answer() -> None:
            with contextlib.suppress(OSError):
                for body in bodies:
                    with server_context().wrap_socket(listening.accept()[0], server_side=True) as client:
                        client.recv(4096)
                        client.sendall(b"HTTP/1.1 206 P\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                        with contextlib.suppress(ssl.SSLError):
                            client.recv(1)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 20)
        port: int = listening.getsockname()[1]
        return port

    def test_kept(self) -> None:
        """A connection that got all its bytes stays open; one that got fewer failed."""
        port = self.serve(b"1234", b"1")
        with patch.object(kept, "SIZE", 4):
            fetcher = kept.Fetcher("127.0.0.1", port)
            self.assertEqual(fetcher.command("open 1"), "open 1 0")
            (one,) = fetcher.kept
            self.assertIsNotNone(one.sock)
            one.close()
            self.assertEqual(fetcher.command("open 1"), "open 0 1")
            self.assertEqual(fetcher.command("what"), "unknown what")

    def test_program(self) -> None:
        """It answers a line for a line; a server that is not there is a failure."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            kept.main(["127.0.0.1", str(port)], io.StringIO("open 2\n"))
        self.assertEqual(out.getvalue(), "open 0 2\n")
