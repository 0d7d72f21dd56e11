"""``openssl s_server`` behind a ``tls:`` target: verified, or refused."""

from __future__ import annotations

import socket

import trustme

from tests.integration.case import ForwarderCase
from tests.integration.forwarder import Forwarder
from tests.integration.programs import Program, needs
from tests.ports import free_port


class OpenSSLTests(ForwarderCase):
    """The forwarder speaks TLS to the upstream, and the client plain text to the forwarder."""

    def setUp(self) -> None:
        """A server whose certificate is for ``localhost``, of an authority only this test knows."""
        super().setUp()
        openssl = needs("openssl")
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        certificate = self.authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(str(self.directory / "key.pem"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(self.directory / "cert.pem"), append=True)
        (self.directory / "page").write_text("over TLS\n")
        self.port = free_port()
        server = Program(
            [
                openssl, "s_server", "-accept", f"127.0.0.1:{self.port}",
                "-cert", "cert.pem", "-key", "key.pem", "-HTTP", "-quiet",
            ],
            self.directory / "openssl.log",
        )  # fmt: skip
        self.addCleanup(server.clean_up)
        server.wait_for_port(self.port)

    def fetch(self, options: str, host: str = "localhost") -> tuple[Forwarder, bytes]:
        """What a plain client gets through a rule with `options`."""
        forwarder = self.forwarder(f"tls: 127.0.0.1:0 -> tls:{host}:{self.port} {options}\n")
        with socket.create_connection(("127.0.0.1", forwarder.port("tls")), 10) as client:
            got = b""
            try:
                client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                while data := client.recv(65536):
                    got += data
            except ConnectionResetError:
                got += b"<reset>"
        return forwarder, got

    def refused(self, options: str, host: str = "localhost") -> None:
        """The rule refuses to talk to the server: no byte, a reset, and the reason says TLS."""
        forwarder, got = self.fetch(options, host)
        self.assertEqual(got, b"<reset>")
        (line,) = forwarder.access_lines(1)
        self.assertEqual((line.reason, line.to_client), ("TC", 0))

    def test_verified(self) -> None:
        """With the right authority the page arrives."""
        forwarder, got = self.fetch(f"ca={self.directory}/ca.pem")
        self.assertIn(b"over TLS\n", got)
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.reason, "--")

    def test_wrong_authority(self) -> None:
        """Another authority's word is not taken."""
        trustme.CA().cert_pem.write_to_path(str(self.directory / "other.pem"))
        self.refused(f"ca={self.directory}/other.pem")

    def test_the_systems_authorities(self) -> None:
        """Without ``ca=`` the system's authorities decide, and they do not know this one."""
        self.refused("")

    def test_wrong_name(self) -> None:
        """A certificate for another name is refused, although its authority is trusted."""
        self.refused(f"ca={self.directory}/ca.pem server-name=example.com")

    def test_wrong_address(self) -> None:
        """So is one that does not name the address dialled."""
        self.refused(f"ca={self.directory}/ca.pem", host="127.0.0.1")

    def test_server_name(self) -> None:
        """``server-name=`` is the name that is asked for and verified."""
        _, got = self.fetch(f"ca={self.directory}/ca.pem server-name=localhost", host="127.0.0.1")
        self.assertIn(b"over TLS\n", got)

    def test_no_verification(self) -> None:
        """``verify=off`` takes any certificate."""
        _, got = self.fetch("verify=off")
        self.assertIn(b"over TLS\n", got)
