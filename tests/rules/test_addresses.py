"""Tests of `portfwd.rules.addresses`: hosts, ports, prefixes, and back to text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.addresses import Place, Role, address_text, read_host, read_place, read_ports
from portfwd.rules.model import Kind, PortRange
from portfwd.rules.tokens import Line, WordFault


def service(name: str, protocol: str) -> int | None:
    """A small /etc/services."""
    return {("http", "tcp"): 80, ("http-alt", "tcp"): 8080, ("domain", "udp"): 53}.get((name, protocol))


def place(text: str, role: Role = Role.LISTEN) -> Place:
    """Read one word."""
    (word,) = Line("f", 1, text).words()
    return read_place(word, role, service)


def port(number: int) -> PortRange:
    """One port."""
    return PortRange(number, number)


class GoodPlacesTests(SynchronousTestCase):
    """Everything that a LISTEN or TARGET may be."""

    def test_any_host(self) -> None:
        """``*``, ``0``, nothing before the colon and a port alone listen on every address."""
        for text in ("*:80", "0:80", ":80", "80", "tcp:80", "tcp::80", ":80/tcp", "tcp:*:80/tcp"):
            found = place(text)
            self.assertEqual((found.kind, found.host, found.ports), (Kind.TCP, "", port(80)), text)

    def test_hosts(self) -> None:
        """Names, IPv4, and IPv6 in brackets, with a zone too."""
        for text, host in (
            ("10.0.0.5:80", "10.0.0.5"),
            ("a-b.example.com:80", "a-b.example.com"),
            ("bücher.example:80", "xn--bcher-kva.example"),
            ("_srv._tcp.example.com.:80", "_srv._tcp.example.com."),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[fe80::1%eth0]:80", "fe80::1%eth0"),
            ("tcp:udp:80", "udp"),
            ("0.0.0.0:80", "0.0.0.0"),
        ):
            self.assertEqual(place(text).host, host, text)

    def test_zero_target(self) -> None:
        """``0`` as a target is this host, as getaddrinfo has it."""
        self.assertEqual(place("0:80", Role.TARGET).host, "0.0.0.0")

    def test_kinds(self) -> None:
        """Prefix and suffix choose the kind."""
        for text, kind in (
            ("udp:10.0.0.5:53", Kind.UDP),
            ("10.0.0.5:53/udp", Kind.UDP),
            ("udp::53/udp", Kind.UDP),
            ("tls:10.0.0.5:443", Kind.TLS),
            ("tls:10.0.0.5:443/tcp", Kind.TLS),
        ):
            self.assertEqual(place(text).kind, kind, text)

    def test_paths(self) -> None:
        """unix:, abstract and quoted names, systemd: and endpoint: keep their text."""
        for text, kind, path in (
            ("unix:/run/a.sock", Kind.UNIX, "/run/a.sock"),
            ("unix:@name", Kind.UNIX, "@name"),
            ('unix:"/run/a b"', Kind.UNIX, "/run/a b"),
            ("unix:/run/a:b/udp", Kind.UNIX, "/run/a:b/udp"),
            ("systemd:web", Kind.SYSTEMD, "web"),
            ("systemd-dgram:dns", Kind.SYSTEMD_DATAGRAM, "dns"),
            ("tls:unix:/run/a.sock", Kind.TLS_UNIX, "/run/a.sock"),
            ("tls:unix:@name", Kind.TLS_UNIX, "@name"),
            ('tls:unix:"/run/a b"', Kind.TLS_UNIX, "/run/a b"),
            ("tls:systemd:web", Kind.TLS_SYSTEMD, "web"),
            (r'endpoint:"tcp:host=fe80\:\:1:port=80"', Kind.ENDPOINT, r"tcp:host=fe80\:\:1:port=80"),
        ):
            found = place(text)
            self.assertEqual((found.kind, found.path, found.ports), (kind, path, None), text)

    def test_hosts_called_as_kinds(self) -> None:
        """With a port behind it, what follows ``tls:`` is a host."""
        for text, host in (("tls:unix:443", "unix"), ("tls:systemd:8443-8444", "systemd")):
            found = place(text)
            self.assertEqual((found.kind, found.host), (Kind.TLS, host))
        self.assertEqual(self.assertRaises(WordFault, place, "tls:unix:").code, "bad-path")

    def test_ports(self) -> None:
        """Numbers, ranges and services; port 0 is any free port of a listener."""
        for text, ports in (
            (":8000-8010", PortRange(8000, 8010)),
            (":0", port(0)),
            (":65535", port(65535)),
            (":00080", port(80)),
            (":http", port(80)),
            (":http-alt", port(8080)),
            (":domain/udp", port(53)),
        ):
            self.assertEqual(place(text).ports, ports, text)
        self.assertEqual(len(PortRange(8000, 8010)), 11)

    def test_written(self) -> None:
        """For rinetd's logs host and port are kept as written, without the protocol."""
        self.assertEqual(place(":http").written, ("*", "http"))
        self.assertEqual(place("[::1]:53/udp").written, ("::1", "53"))
        self.assertEqual(place("unix:/a").written, ("unix:/a", ""))


class BadPlacesTests(SynchronousTestCase):
    """What is wrong, and where in the word. The messages are in the golden files."""

    def check(self, text: str, code: str, start: int, role: Role = Role.LISTEN) -> None:
        """Expect a fault."""
        fault = self.assertRaises(WordFault, place, text, role)
        self.assertEqual((fault.code, fault.start), (code, start), text)

    def test_faults(self) -> None:
        """Each fault begins at the character that is wrong."""
        for text, code, start in (
            ("10.0.0.5", "missing-port", 0),
            ("[::1]", "missing-port", 0),
            ("10.0.0.5:", "missing-port", 0),
            ("::1", "unbracketed-ipv6", 0),
            ("::1:80", "unbracketed-ipv6", 0),
            ("a:b:80", "bad-address", 0),
            ("/run/a", "bad-address", 0),
            ("unix", "bad-address", 0),
            ("-:80", "bad-host", 0),
            ("a" * 64 + ":80", "bad-host", 0),
            ("a." * 127 + "com:80", "bad-host", 0),
            ("[::g]:80", "bad-host", 0),
            ("tcp:300.1.1.1:80", "bad-host", 4),
            (":99999", "bad-port", 1),
            (":8000-99999", "bad-port", 6),
            (":80-", "bad-port", 1),
            (":-80", "bad-port", 1),
            (":8x", "bad-port", 1),
            ("8x", "missing-port", 0),
            ("+", "bad-port", 0),
            (":٨٠", "bad-port", 1),
            (":gopher", "unknown-service", 1),
            (":http/udp", "unknown-service", 1),
            (":90-80", "bad-range", 1),
            (":0-80", "port-zero", 1),
            (":80/sctp", "bad-protocol", 4),
            ("tls::80/udp", "bad-protocol", 8),
            ("unix:", "bad-path", 5),
            ("unix:@", "bad-path", 5),
            ("unix:" + "é" * 54, "bad-path", 5),
            ("endpoint:tcp:80", "bad-endpoint", 9),
            ('endpoint:" "', "bad-endpoint", 9),
        ):
            self.check(text, code, start)

    def test_targets(self) -> None:
        """A target needs a host and a port, and cannot be a systemd socket."""
        for text, code in (
            (":80", "missing-host"),
            ("*:80", "missing-host"),
            ("10.0.0.5:0", "port-zero"),
            ("systemd:web", "listener-only"),
            ("systemd-dgram:dns", "listener-only"),
            ("tls:systemd:web", "listener-only"),
        ):
            self.assertEqual(self.assertRaises(WordFault, place, text, Role.TARGET).code, code, text)

    def test_longest_unix_path(self) -> None:
        """107 bytes fit, as unix(7) says."""
        self.assertEqual(len(place("unix:" + "x" * 107).path), 107)


class PartsTests(SynchronousTestCase):
    """Host and port by themselves, as rinetd's lines have them."""

    def test_host_without_brackets(self) -> None:
        """IPv6 on rinetd's lines needs no brackets but may have them."""
        self.assertEqual(read_host("::1", Role.TARGET, brackets=False), "::1")
        self.assertEqual(read_host("[::1]", Role.TARGET, brackets=False), "::1")
        self.assertRaises(WordFault, read_host, "::1", Role.TARGET, brackets=True)
        self.assertRaises(WordFault, read_host, "1:2", Role.TARGET, brackets=False)

    def test_other_letters(self) -> None:
        """A name with letters beyond ASCII is the one that DNS has by IDNA 2008; what is none is refused."""
        self.assertEqual(read_host("straße.test", Role.TARGET, brackets=False), "xn--strae-oqa.test")
        self.assertEqual(place("straße.test:80").host, "xn--strae-oqa.test")
        self.assertEqual(place("straße.test:80").written[0], "straße.test")
        fault = self.assertRaises(WordFault, read_host, "ªº" * 40, Role.TARGET, brackets=False)
        self.assertEqual(fault.code, "bad-host")

    def test_endless_number(self) -> None:
        """A number of a million digits is refused as fast as any other."""
        fault = self.assertRaises(WordFault, read_ports, "9" * 1_000_000, "tcp", Role.LISTEN, service)
        self.assertEqual(fault.code, "bad-port")


class TextTests(SynchronousTestCase):
    """Places back to text."""

    def test_canonical(self) -> None:
        """One text for each place, which reads back as it."""
        for text, canonical in (
            ("80", ":80"),
            ("*:80/tcp", ":80"),
            ("udp::53", ":53/udp"),
            ("[::1]:80", "[::1]:80"),
            ("tls:a:443", "tls:a:443"),
            (":1-2", ":1-2"),
            ("tcp:udp:80", "tcp:udp:80"),
            ("udp:tls:80", "udp:tls:80/udp"),
            ("unix:/a", "unix:/a"),
            ('unix:"/a,b"', 'unix:"/a,b"'),
            ('unix:"/a b"', 'unix:"/a b"'),
            ("systemd:a", "systemd:a"),
            ("systemd-dgram:a", "systemd-dgram:a"),
            ("tls:unix:/a", "tls:unix:/a"),
            ('tls:unix:"/a,b"', 'tls:unix:"/a,b"'),
            ("tls:systemd:a", "tls:systemd:a"),
            (r'endpoint:"a\"b\:c"', r'endpoint:"a\"b\\:c"'),
        ):
            found = place(text)
            self.assertEqual(address_text(found), canonical)
            again = place(canonical)
            self.assertEqual(
                (again.kind, again.host, again.ports, again.path),
                (found.kind, found.host, found.ports, found.path),
            )

    def test_unquoted(self) -> None:
        """The name of a rule without one has no quotes."""
        self.assertEqual(address_text(place('unix:"/a b"'), quoted=False), "unix:/a b")
