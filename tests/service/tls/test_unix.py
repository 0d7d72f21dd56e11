"""TLS on unix sockets and on sockets that systemd opened."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any

import trustme

from portfwd.listen import systemd
from portfwd.service.run.forwarder import Forwarder
from tests.service.run.test_reload import ReloadCase


class UnixTests(ReloadCase):
    """Rules before each other, so that one speaks TLS to the next."""

    def setUp(self) -> Any:
        """A certificate for one name."""
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        authority = trustme.CA()
        leaf = authority.issue_cert("inner.test").private_key_and_cert_chain_pem
        leaf.write_to_path(f"{self.directory}/server.pem")
        authority.cert_pem.write_to_path(f"{self.directory}/ca.pem")
        self.path = f"{self.directory}/s"
        self.cert = f"cert={self.directory}/server.pem"
        self.trust = f"ca={self.directory}/ca.pem server-name=inner.test"
        return super().setUp()

    async def serves(self, forwarder: Forwarder, rule: str) -> None:
        """A client of it comes through."""
        client = await self.in_thread(lambda: self.connect(forwarder, rule))
        client.sendall(b"ping")
        server = await self.in_thread(self.accept)
        self.assertEqual(await self.in_thread(lambda: server.recv(10)), b"ping")

    async def test_unix(self) -> None:
        """A unix socket speaks TLS, as listener and as target; one reload is enough to begin or end it."""
        front = f"front: 127.0.0.1:0 -> tls:unix:{self.path}"
        tls = f"back: tls:unix:{self.path} {self.cert} -> {self.target}\n{front} {self.trust}\n"
        forwarder = self.started(tls)
        await self.serves(forwarder, "front")
        await self.applied(forwarder, f"back: unix:{self.path} -> {self.target}\n")
        await self.session(forwarder, "back")
        await self.applied(forwarder, tls.replace(self.trust, "verify=off"))
        await self.serves(forwarder, "front")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    async def test_no_name(self) -> None:
        """A target without a host is verified by a name that the rule has to have."""
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        result = await self.reload(forwarder, f"a: 127.0.0.1:0 -> tls:unix:{self.path}\n")
        self.assertIn("a target without a host needs server-name=", result.failures[0])

    async def test_systemd(self) -> None:
        """A socket of systemd's speaks TLS."""
        held = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(held.close)
        self.patch(systemd, "inherited", lambda *_: {"web": [held.fileno()]})
        forwarder = self.started(f"a: 127.0.0.1:0 -> {self.target}\n")
        port = held.getsockname()[1]
        await self.applied(
            forwarder,
            f"a: tls:systemd:web {self.cert} -> {self.target}\n"
            f"front: 127.0.0.1:0 -> tls:127.0.0.1:{port} {self.trust}\n",
        )
        await self.serves(forwarder, "front")
