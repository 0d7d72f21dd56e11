"""PROXY headers between portfwd, HAProxy and nginx: who is whom, on both sides."""

from __future__ import annotations

import socket

from tests.integration.filter_case import TLS_ENDS, FilterCase
from tests.integration.forwarder import TIMEOUT, AccessLine, Forwarder, wait_until
from tests.integration.servers import start_haproxy, start_nginx, write_certificates
from tests.ports import free_port

#: What a receiver answers: who is announced, and where that one connected to.
NGINX = "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port"
HAPROXY = "%ci:%cp %fi:%fp"
HAPROXY_TLVS = "authority=%[fc_pp_authority] id=%[fc_pp_unique_id]"


class ProxyInTests(FilterCase):
    """HAProxy sends headers, and ``proxy-in`` reads them."""

    def setUp(self) -> None:
        """A web server, HAProxy that sends both versions, and between them the rules."""
        super().setUp()
        self.web, self.one, self.two, self.numbered = (free_port() for _ in range(4))
        start_nginx(
            self,
            [self.web],
            f'server {{ listen 127.0.0.1:{self.web}; location = / {{ return 200 "hello\\n"; }} }}',
        )
        self.receiver = free_port()
        self.through: Forwarder = self.forwarder(
            self.rule("in", f"127.0.0.1:{self.web}", "deny 127.0.0.3", "filter proxy-in trust=127.0.0.1")
            + self.rule("any", f"127.0.0.1:{self.web}", "filter proxy-in trust=127.0.0.1 untrusted=pass")
            + self.rule(
                "on", f"127.0.0.1:{self.receiver}", "filter proxy-in trust=127.0.0.1",
                "filter proxy-out version=2 tlv=unique-id,crc32c",
            )
        )  # fmt: skip
        inner, onward = self.through.port("in"), self.through.port("on")
        start_haproxy(
            self,
            [self.one, self.two, self.numbered, self.receiver],
            f"""
listen one
    bind 127.0.0.1:{self.one}
    server s 127.0.0.1:{inner} send-proxy
listen two
    bind 127.0.0.1:{self.two}
    server s 127.0.0.1:{inner} send-proxy-v2
frontend id
    bind 127.0.0.1:{self.numbered}
    unique-id-format here-%rt
    default_backend id
backend id
    server s 127.0.0.1:{onward} send-proxy-v2 proxy-v2-options unique-id,crc32c
frontend receiver
    mode http
    bind 127.0.0.1:{self.receiver} accept-proxy
    http-request return status 200 content-type text/plain lf-string "{HAPROXY} {HAPROXY_TLVS}"
""",
        )

    def test_client_is_who_haproxy_says(self) -> None:
        """The line names HAProxy's client; the header is in nobody's count, and in nobody's way."""
        expected = self.write_large()
        fetched = []
        for port, page in ((self.one, ""), (self.two, ""), (self.two, "large")):
            got = self.fetch(f"http://127.0.0.1:{port}/{page}", "--interface", "127.0.0.2")
            self.expect(fetched=got)
            fetched.append((got, port))
            self.assertTrue(got.client.startswith("127.0.0.2:"))
        lines = self.closing_lines(self.through)
        for line, (got, port) in zip(lines, fetched, strict=True):
            self.assertEqual((line.client, line.raw["local"]), (got.client, f"127.0.0.1:{port}"))
        self.assertEqual([got.body for got, _ in fetched[:2]], [b"hello\n"] * 2)
        self.assert_bulk(lines[-1], fetched[-1][0].body, expected)

    def test_refused(self) -> None:
        """
        A client that the access list denies, headers that are none, and senders that are not trusted.

        Nothing is dialled and nothing is said; only with ``untrusted=pass`` strangers' bytes go through,
        and a header is the upstream's to refuse.
        """
        clients = []
        for port in (self.one, self.two):
            clients.append(self.fetch(f"http://127.0.0.1:{port}/", "--interface", "127.0.0.3").client)
            self.expect_refused("AC")
        strange = ("--interface", "127.0.0.5")
        clients.append(self.fetch(f"http://127.0.0.1:{self.through.port('in')}/", *strange).client)
        self.expect_refused("FD", "not one of the peers")
        for sent in (
            b"GET / HTTP/1.0\r\n\r\n",
            b"PROXY TCP4 127.0.0.2 127.0.0.1 99999 80\r\nGET / HTTP/1.0\r\n\r\n",
            b"PROXY TCP4 127.0.0.2 ",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(5),
        ):
            with socket.create_connection(("127.0.0.1", self.through.port("in")), 20) as client:
                clients.append(f"127.0.0.1:{client.getsockname()[1]}")
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(client.recv(100), b"", sent)
            self.expect_refused("FD")
        anyone = f"http://127.0.0.1:{self.through.port('any')}/"
        passed = self.fetch(anyone, *strange)
        self.assertEqual(passed.body, b"hello\n")
        self.expect(fetched=passed)
        with_header = self.fetch(anyone, *strange, "--haproxy-protocol")
        self.assertEqual(with_header.facts["http_code"], 400)
        self.expect()
        lines = self.closing_lines(self.through)
        self.assertEqual([line.client for line in lines], [*clients, passed.client, with_header.client])
        self.assertEqual([line.raw["access_step"] for line in lines], [4, 4, *[0] * 8])
        self.assertTrue(all(line.raw["detail"] for line in lines if line.reason == "FD"))

    def test_passed_on(self) -> None:
        """In by ``proxy-in`` and out by ``proxy-out``: HAProxy's own receiver hears what its sender said."""
        got = self.fetch(f"http://127.0.0.1:{self.numbered}/", "--interface", "127.0.0.2")
        self.assertEqual(got.body.decode(), f"{got.client} 127.0.0.1:{self.numbered} authority= id=here-0")
        self.expect()
        (line,) = self.closing_lines(self.through)
        self.assertEqual(line.client, got.client)
        # The header that we send is part of what the upstream gets.
        self.assertGreater(line.to_upstream, got.facts["size_request"])


class ProxyInPairTests(ProxyInTests):
    """The same over the pair."""

    relay_option = "pair"


class HealthCheckTests(FilterCase):
    """What HAProxy sends for itself."""

    def test_health_checks(self) -> None:
        """A check is for nobody, and says ``LOCAL``: HAProxy itself is its client, and finds all well."""
        web, front = free_port(), free_port()
        start_nginx(
            self, [web], f'server {{ listen 127.0.0.1:{web}; location / {{ return 200 "hello\\n"; }} }}'
        )
        through = self.forwarder(self.rule("in", f"127.0.0.1:{web}", "filter proxy-in trust=127.0.0.1"))
        start_haproxy(
            self,
            [front],
            f"""
defaults http
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen checked
    bind 127.0.0.1:{front}
    option httpchk GET /
    server s 127.0.0.1:{through.port("in")} send-proxy-v2 check inter 50ms fall 1 rise 1
""",
        )
        wait_until(lambda: through.access_text() != "", TIMEOUT, lambda: f"no check:\n{through.log}")
        check = AccessLine.read(through.access_text().splitlines()[0])
        self.assertTrue(check.client.startswith("127.0.0.1:"), str(check.raw))
        # HAProxy resets when it has read enough.
        self.assertIn(check.reason, ("--", "CD", "CH"))
        self.assertGreater(check.to_client, 0)
        self.assertEqual(self.fetch(f"http://127.0.0.1:{front}/").body, b"hello\n")


class NginxTests(FilterCase):
    """nginx on both sides, as the how-to guide has it."""

    def test_through_and_through(self) -> None:
        """nginx sends a header, portfwd reads it and sends it on, and nginx has the client's address."""
        web, front, inner = (free_port() for _ in range(3))
        start_nginx(
            self,
            [web, front],
            f"server {{ listen 127.0.0.1:{web} proxy_protocol; set_real_ip_from 127.0.0.1; "
            "real_ip_header proxy_protocol; "
            'location = / { return 200 "$remote_addr:$remote_port"; } }',
            f"server {{ listen 127.0.0.1:{front}; proxy_protocol on; proxy_pass 127.0.0.1:{inner}; }}",
        )
        through = self.forwarder(
            self.rule(
                "web", f"127.0.0.1:{web}", "deny 127.0.0.3",
                "filter proxy-in trust=127.0.0.1", "filter proxy-out version=2", listen=f"127.0.0.1:{inner}",
            )
        )  # fmt: skip
        url = f"http://127.0.0.1:{front}/"
        got = self.fetch(url, "--interface", "127.0.0.2")
        self.assertEqual(got.body.decode(), got.client)
        self.expect()
        denied = self.fetch(url, "--interface", "127.0.0.3")
        self.assertEqual(denied.body, b"")
        self.expect_refused("AC")
        lines = self.closing_lines(through)
        self.assertEqual([line.client for line in lines], [got.client, denied.client])


class ProxyOutTests(FilterCase):
    """``proxy-out`` tells nginx and HAProxy who the client is."""

    def setUp(self) -> None:
        """Receivers of three kinds, and a rule to each in both versions."""
        super().setUp()
        self.http, self.stream, self.haproxy, self.secure = (free_port() for _ in range(4))
        write_certificates(self, "one.example")
        start_nginx(
            self,
            [self.http, self.stream],
            f"server {{ listen 127.0.0.1:{self.http} proxy_protocol; "
            f'location = / {{ return 200 "{NGINX}"; }} }}',
            f'server {{ listen 127.0.0.1:{self.stream} proxy_protocol; return "{NGINX}"; }}',
        )
        answer = "http-request return status 200 content-type text/plain lf-string"
        start_haproxy(
            self,
            [self.haproxy, self.secure],
            f"""
frontend plain
    mode http
    bind 127.0.0.1:{self.haproxy} accept-proxy
    {answer} "{HAPROXY}"
frontend secure
    mode http
    bind 127.0.0.1:{self.secure} accept-proxy ssl crt {self.directory}/one.example.pem
    {answer} "{HAPROXY} {HAPROXY_TLVS}"
""",
        )
        rules = [
            self.rule(
                f"{name}{version}",
                f"127.0.0.1:{port}",
                f"filter proxy-out version={version}",
            )
            for name, port in (("http", self.http), ("stream", self.stream), ("haproxy", self.haproxy))
            for version in (1, 2)
        ]
        rules.append(
            self.rule(
                "secure", f"127.0.0.1:{self.secure}",
                "filter sni", "filter proxy-out tlv=authority,alpn,unique-id,ssl,crc32c",
            )
        )  # fmt: skip
        self.through: Forwarder = self.forwarder("".join(rules))

    def test_announced(self) -> None:
        """Each receiver hears the client's address and the rule's, before anything else and nothing more."""
        expected = self.write_large()
        clients, sizes = [], []
        for version in (1, 2):
            for name in ("http", "haproxy"):
                port = self.through.port(f"{name}{version}")
                got = self.fetch(f"http://127.0.0.1:{port}/", "--interface", "127.0.0.2")
                self.assertEqual(got.body.decode(), f"{got.client} 127.0.0.1:{port}", f"{name} {version}")
                self.expect()
                clients.append(got.client)
                header = 28 if version == 2 else len(f"PROXY TCP4 {got.body.decode()}\r\n")
                sizes.append((got.facts["size_request"] + header, got.answer_size))
            # A server that speaks first: the header does not wait for the client's first byte.
            port = self.through.port(f"stream{version}")
            with socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.2", 0)) as client:
                said = client.makefile().read()
                clients.append(f"127.0.0.2:{client.getsockname()[1]}")
            self.assertEqual(said, f"{clients[-1]} 127.0.0.1:{port}")
            self.expect()
            sizes.append((28 if version == 2 else len(f"PROXY TCP4 {said}\r\n"), len(said)))
        large = self.fetch(f"http://127.0.0.1:{self.through.port('http2')}/large")
        self.expect()
        lines = self.closing_lines(self.through)
        self.assertEqual([line.client for line in lines], [*clients, large.client])
        self.assertEqual([(line.to_upstream, line.to_client) for line in lines[:-1]], sizes)
        self.assert_bulk(lines[-1], large.body, expected)

    def test_behind_sni(self) -> None:
        """The header stands before the ClientHello, with the name that was asked for, and a checksum."""
        port = self.through.port("secure")
        got = self.fetch(
            "https://one.example/", "--connect-to", f"one.example:443:127.0.0.1:{port}",
            "--cacert", str(self.directory / "ca.pem"),
        )  # fmt: skip
        expected = f"{got.client} 127.0.0.1:{port} authority=one.example id="
        self.assertTrue(got.body.decode().startswith(expected), (got.body, got.facts["errormsg"]))
        self.assertNotEqual(got.body.decode(), expected, "an id of ours")
        self.expect(*TLS_ENDS)
        self.closing_lines(self.through)


class ProxyOutPairTests(ProxyOutTests):
    """The same over the pair."""

    relay_option = "pair"
