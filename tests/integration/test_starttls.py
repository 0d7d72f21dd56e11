"""TLS that begins behind a request in plain bytes: real clients and servers of PostgreSQL and SMTP."""

from __future__ import annotations

import smtplib
import ssl
from typing import Any

from tests.integration.case import ForwarderCase
from tests.integration.programs import needs, run
from tests.integration.servers import start_postgresql, start_smtp, write_certificates


class StartTLSCase(ForwarderCase):
    """A forwarder with certificates of one authority."""

    def setUp(self) -> None:
        """Write the certificates."""
        super().setUp()
        write_certificates(self, "db.example", "other.example", "localhost")
        self.ca = self.directory / "ca.pem"

    def pem(self, name: str) -> str:
        """The file of a certificate and its key."""
        return str(self.directory / f"{name}.pem")


class PostgreSQLTests(StartTLSCase):
    """``starttls-postgres`` with psql, pgbench and PostgreSQL."""

    def connection(self, port: int, *more: str, mode: str = "verify-full", host: str = "db.example") -> str:
        """A connection string."""
        return " ".join(
            (
                f"host={host} hostaddr=127.0.0.1 port={port} user=tester dbname=postgres",
                f"sslmode={mode} sslrootcert={self.ca} connect_timeout=10 gssencmode=disable",
                *more,
            )
        )

    def psql(self, port: int, sql: str = "select 1", **options: Any) -> str:
        """What psql prints."""
        done = run(needs("psql"), "-XAtc", sql, self.connection(port, **options))
        return done.stdout.decode().strip()

    def refused(self, connection: str) -> str:
        """What psql says that cannot connect."""
        done = run(needs("psql"), "-Xc", "select 1", connection, check=False)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr.decode()

    def pgbench(self, port: int) -> None:
        """Two hundred transactions on new connections each."""
        arguments = ["-n", "-S", "-C", "-c", "4", "-t", "20"]
        run(needs("pgbench"), "-i", "-q", self.connection(port))
        done = run(needs("pgbench"), *arguments, self.connection(port))
        self.assertIn(b"number of transactions actually processed: 80/80", done.stdout)

    def test_terminate(self) -> None:
        """Clients verify the forwarder's certificate; the server behind it has no TLS."""
        server = start_postgresql(self)
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{server}\n"
            f"    filter starttls-postgres terminate cert={self.pem('db.example')} require=on\n"
        )
        port = forwarder.port("r")
        self.assertEqual(self.psql(port, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "f")
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.raw["tls"]["version"], "TLSv1.3")
        self.pgbench(port)
        self.assertIn("this server wants TLS", self.refused(self.connection(port, mode="disable")))
        said = self.refused(self.connection(port, host="elsewhere.example"))
        self.assertIn("does not match host name", said)

    def test_originate(self) -> None:
        """The forwarder verifies the server's certificate; clients speak plain bytes to it."""
        server = start_postgresql(self, "db.example")
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{server}\n"
            f"    filter starttls-postgres originate ca={self.ca} server-name=db.example\n"
            f"w: 127.0.0.2:0 -> 127.0.0.1:{server}\n"
            f"    filter starttls-postgres originate ca={self.ca}\n"
        )
        sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        for mode in ("disable", "prefer"):
            self.assertEqual(self.psql(forwarder.port("r"), sql, mode=mode), "t")
        self.refused(self.connection(forwarder.port("r"), mode="require"))
        port = forwarder.port("w")
        wrong = self.connection(port, mode="disable").replace("127.0.0.1", "127.0.0.2")
        self.refused(wrong)
        line = next(line for line in forwarder.access_lines(4) if line.raw["rule"] == "w")
        self.assertEqual(line.reason, "TC", line.raw)

    def test_both(self) -> None:
        """TLS on both sides, with different certificates."""
        server = start_postgresql(self, "other.example")
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{server}\n"
            f"    filter starttls-postgres terminate cert={self.pem('db.example')}\n"
            f"    filter starttls-postgres originate ca={self.ca} server-name=other.example\n"
        )
        port = forwarder.port("r")
        self.assertEqual(self.psql(port, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t")
        self.pgbench(port)

    def test_pass(self) -> None:
        """The name that a client asks for chooses its server, whose certificate it verifies."""
        servers = {name: start_postgresql(self, name) for name in ("db.example", "other.example")}
        routes = "".join(f"    route {name} -> 127.0.0.1:{port}\n" for name, port in servers.items())
        forwarder = self.forwarder(
            "r: 127.0.0.1:0 -> 127.0.0.1:1\n    filter starttls-postgres answer\n    filter sni\n"
            f"    filter starttls-postgres ask\n{routes}"
        )
        for name, server in servers.items():
            self.assertEqual(self.psql(forwarder.port("r"), "show port", host=name), str(server))
        self.pgbench(forwarder.port("r"))


class SMTPTests(StartTLSCase):
    """``starttls-smtp`` with smtplib and aiosmtpd."""

    def serve(self, tls: str = "") -> int:
        """A server of SMTP; with `tls` it requires TLS, and shows the certificate of that name."""
        self.mails: list[tuple[str, bytes]] = []
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pem(tls))
        return start_smtp(self, self.mails, context)

    def context(self) -> ssl.SSLContext:
        """What verifies certificates of our authority."""
        return ssl.create_default_context(cafile=str(self.ca))

    def mail(self, port: int, *, tls: bool, name: str = "localhost") -> None:
        """Send a mail."""
        with smtplib.SMTP("127.0.0.1", port, local_hostname="me.example", timeout=10) as client:
            client.ehlo()
            if tls:
                client._host = name  # type: ignore[attr-defined] - what its certificate is checked against
                client.starttls(context=self.context())
                client.ehlo()
                self.assertFalse(client.has_extn("starttls"))
            client.sendmail("a@example", ["b@example"], b"Subject: hello\r\n\r\n" + b"line\r\n" * 5000)

    def test_terminate(self) -> None:
        """Clients verify the forwarder's certificate; the server behind it has no TLS."""
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{self.serve()}\n"
            f"    filter starttls-smtp terminate cert={self.pem('localhost')} require=on\n"
        )
        self.mail(forwarder.port("r"), tls=True)
        self.assertEqual([how for how, _ in self.mails], ["plain"])
        self.assertRaises(smtplib.SMTPException, self.mail, forwarder.port("r"), tls=False)

    def test_originate(self) -> None:
        """The forwarder verifies the server's certificate; clients speak plain bytes to it."""
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{self.serve('localhost')}\n"
            f"    filter starttls-smtp originate ca={self.ca} server-name=localhost\n"
        )
        self.mail(forwarder.port("r"), tls=False)
        self.assertEqual([how for how, _ in self.mails], ["tls"])

    def test_both(self) -> None:
        """TLS on both sides."""
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{self.serve('other.example')}\n"
            f"    filter starttls-smtp terminate cert={self.pem('localhost')}\n"
            f"    filter starttls-smtp originate ca={self.ca} server-name=other.example\n"
        )
        self.mail(forwarder.port("r"), tls=True)
        self.assertEqual([how for how, _ in self.mails], ["tls"])

    def test_pass(self) -> None:
        """The name that a client asks for chooses its server, whose certificate it verifies."""
        port = self.serve("db.example")
        forwarder = self.forwarder(
            "r: 127.0.0.1:0 -> 127.0.0.1:1\n    filter starttls-smtp answer\n    filter sni\n"
            f"    filter starttls-smtp ask\n    route db.example -> 127.0.0.1:{port}\n"
        )
        self.mail(forwarder.port("r"), tls=True, name="db.example")
        self.assertEqual([how for how, _ in self.mails], ["tls"])
