r"""Tests of `portfwd.wire.http_head`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.wire import Need, TooLong
from portfwd.wire.http_head import MAX_FIELDS, MAX_HEAD, MAX_LINE, MAX_METHOD, PREFACE, RequestHead, read_head
from tests.wire.conversations import ReaderTestCase

#: What curl sends.
CURL = b"GET /a?b=c HTTP/1.1\r\nHost: www.example.com:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"


def head(target: str = "/", *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """Make a head."""
    return "\r\n".join([f"{method} {target} {version}", *fields, "", ""]).encode("latin-1")


class ReadTests(ReaderTestCase):
    """Heads that are taken."""

    def test_curl(self) -> None:
        """A usual request."""
        request = self.read(read_head, CURL)
        self.assertEqual(
            request,
            RequestHead(
                "GET", "/a?b=c", "1.1", "www.example.com", 8080,
                (("host", b"www.example.com:8080"), ("user-agent", b"curl/8.5.0"), ("accept", b"*/*")),
            ),
        )  # fmt: skip
        self.assertEqual(request.field("accept"), (b"*/*",))
        self.assertEqual(request.field("cookie"), ())

    def test_hosts(self) -> None:
        """Host and port in every form that a Host field has."""
        for value, host, port in (
            ("a.example", "a.example", 0), ("A.Example.", "a.example", 0), ("a:80", "a", 80), ("a:", "a", 0),
            ("192.0.2.1:1", "192.0.2.1", 1), ("[2001:DB8::0:1]:443", "2001:db8::1", 443), ("[::1]", "::1", 0),
            ("", "", 0), ("a_b", "a_b", 0), ("a:65535", "a", 65535), (":80", "", 80),
        ):  # fmt: skip
            request = self.read(read_head, head("/", f"Host: {value}"))
            self.assertEqual((request.host, request.port), (host, port), value)

    def test_fields(self) -> None:
        """Names are in small letters; blanks around values go; tabs and high bytes inside stay."""
        request = self.read(read_head, head("/", "HOST:a", "X-Y: \t v\t w\xff \t", "x-y:", "A!b: "))
        self.assertEqual(request.field("x-y"), (b"v\t w\xff", b""))
        self.assertEqual([name for name, _ in request.fields], ["host", "x-y", "x-y", "a!b"])

    def test_old(self) -> None:
        """HTTP/1.0 needs no Host, and may have one."""
        self.assertEqual(self.read(read_head, head(version="HTTP/1.0")), RequestHead("GET", "/", "1.0"))
        self.assertEqual(self.read(read_head, head("/", "Host: a", version="HTTP/1.0")).host, "a")

    def test_absolute(self) -> None:
        """An absolute target names the host, and Host says the same or nothing."""
        for target, host, port in (
            ("http://b.example/x", "b.example", 0), ("HTTPS://B:444", "b", 444),
            ("http://[::1]:8?x", "::1", 8),
        ):  # fmt: skip
            for named in ("", f"[{host}]:80" if ":" in host else host):
                request = self.read(read_head, head(target, f"Host: {named}"))
                self.assertEqual((request.host, request.port, request.target), (host, port, target))
        self.assertEqual(self.read(read_head, head("http://b/", version="HTTP/1.0")).host, "b")

    def test_connect(self) -> None:
        """CONNECT asks for its target."""
        request = self.read(read_head, head("Db.example:5432", "Host: other", method="CONNECT"))
        self.assertEqual((request.method, request.host, request.port), ("CONNECT", "db.example", 5432))
        request = self.read(read_head, head("[::1]:22", version="HTTP/1.0", method="CONNECT"))
        self.assertEqual((request.host, request.port), ("::1", 22))

    def test_options(self) -> None:
        """``*`` asks for the whole server that Host names."""
        self.assertEqual(self.read(read_head, head("*", "Host: a", method="OPTIONS")).host, "a")

    def test_preface(self) -> None:
        """The preface of HTTP/2 is recognised; a method of that name is another thing."""
        self.assertEqual(self.read(read_head, PREFACE), RequestHead("PRI", "*", "2.0"))
        self.assertEqual(self.read(read_head, head("/", "Host: a", method="PRI")).method, "PRI")

    def test_empty_line_before(self) -> None:
        """One empty line before the request is skipped."""
        self.assertEqual(self.read(read_head, b"\r\n" + CURL).host, "www.example.com")

    def test_limits(self) -> None:
        """Just below every limit a head is taken."""
        line = "/".ljust(MAX_LINE - len("GET  HTTP/1.1"), "x")
        self.read(read_head, head(line, "Host: a"))
        self.read(read_head, head("/", "Host: a", *["X: y"] * (MAX_FIELDS - 1)))
        self.read(read_head, head("/", "Host: a", method="X" * MAX_METHOD))
        whole = head("/", "Host: a", "X: ")
        self.read(read_head, head("/", "Host: a", "X: " + "y" * (MAX_HEAD - len(whole))))

    def test_needs(self) -> None:
        """Nothing is known of the length before the empty line."""
        self.assertEqual([read_head(CURL[:length]) for length in (0, 1, 50)], [Need(1), Need(2), Need(51)])


class RefuseTests(ReaderTestCase):
    """What is no HTTP, or a wrong one."""

    def test_two_hosts(self) -> None:
        """Where target and Host disagree, who reads it behind us might see the other one: it is refused."""
        self.refuse(read_head, head("http://b.example/", "Host: a.example"), "names two hosts")

    def test_not_http(self) -> None:
        """Other protocols are refused by their first bytes."""
        for data in (
            b"\x16\x03\x01",
            b" ",
            b"SSH-2.0-x\r\n",
            b"\x05\x01\0",
            b"GET\t",
            b"GET\r",
            b"(",
            b"\0" * 9,
        ):
            self.refuse(read_head, data, "no method")
        for data in (b"\n", b"\r\n\r", b"\r\n\r\n", b"\r\n\nGET"):
            self.refuse(read_head, data, "empty lines")
        self.refuse(read_head, b"X" * (MAX_METHOD + 1), "no method")

    def test_limits(self) -> None:
        """A line, a head and a number of fields above their limits are too long, before they end."""
        self.refuse(read_head, b"GET /" + b"x" * (MAX_LINE - 4), str(MAX_LINE), TooLong)
        line = "/".ljust(MAX_LINE + 1 - len("GET  HTTP/1.1"), "x")
        self.refuse(read_head, head(line, "Host: a"), str(MAX_LINE), TooLong)
        self.refuse(read_head, head("/", "Host: a", *["X: y"] * MAX_FIELDS), str(MAX_FIELDS), TooLong)
        whole = head("/", "Host: a", "X: ")
        data = head("/", "Host: a", "X: " + "y" * (MAX_HEAD + 1 - len(whole)))
        self.refuse(read_head, data, str(MAX_HEAD), TooLong)
        self.refuse(read_head, data[:MAX_HEAD], str(MAX_HEAD), TooLong)

    def test_line_ends(self) -> None:
        """CR and LF stand together and nowhere else, and this is seen before the head is complete."""
        for data in (
            b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nX: a\rb\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        ):  # fmt: skip
            self.refuse(read_head, data, "CRLF")

    def test_request_line(self) -> None:
        """Method, target and version with single blanks between them."""
        for line in (
            "GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET / x HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/2.0", "GET / HTTP/1.11", "GET / HTTP/11", "GET /\xe9 HTTP/1.1", "GET /\t HTTP/1.1",
            "GET ",
        ):  # fmt: skip
            self.refuse(read_head, f"{line}\r\nHost: a\r\n\r\n".encode("latin-1"), "first line")

    def test_fields(self) -> None:
        """No folded lines, no blanks before the colon, no empty names, no control characters."""
        for field, part in (
            (" folded", "folded"), ("\tfolded", "folded"), ("Host : a", "no field"), (": a", "no field"),
            ("X", "no field"), ("X y: a", "no field"), ("X: \0", "no field"), ("X: \x7f", "no field"),
            ("H\xf6st: a", "no field"),
        ):  # fmt: skip
            self.refuse(read_head, head("/", "Host: a", field), part)
            self.refuse(read_head, head("/", field, "Host: a"), part)

    def test_host(self) -> None:
        """HTTP/1.1 has one Host; two are refused in HTTP/1.0 too, the same or not."""
        self.refuse(read_head, head(), "one Host")
        for version in ("HTTP/1.0", "HTTP/1.1"):
            self.refuse(read_head, head("/", "Host: a", "host: a", version=version), "one Host")
        for value in (
            "a b",
            "a,b",
            "a/b",
            "user@a",
            "a:b",
            "a:65536",
            "a:1:2",
            "::1",
            "[a",
            "[::1]x",
            "a\xe9",
            "%61",
        ):
            self.refuse(read_head, head("/", f"Host: {value}"), "host that is none")
        self.refuse(read_head, head("/", "Host: [::1::]"), "IPv6 address")

    def test_targets(self) -> None:
        """A target is a path, ``*`` or a URI with a host; CONNECT's is a host with a port."""
        self.refuse(read_head, head("a", "Host: a"), "neither")
        for target in ("http:///x", "http://:80/"):
            self.refuse(read_head, head(target, "Host: a"), "without a host")
        self.refuse(read_head, head("http://u@b/", "Host: a"), "host that is none")
        for target in ("a", "a:", "a:0", ":80"):
            self.refuse(read_head, head(target, "Host: a", method="CONNECT"), "a host and a port")
        self.refuse(read_head, head("http://a:80/", "Host: a", method="CONNECT"), "host that is none")


class FuzzTests(ReaderTestCase):
    """Bytes of nobody in particular."""

    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b"GET",
                        b" ",
                        b"/",
                        b"HTTP/1.1",
                        b"\r\n",
                        b"\r",
                        b"\n",
                        b"Host:",
                        b"a",
                        b":",
                        b"\r\n\r\n",
                        b"\t",
                    ]
                ),
                st.sampled_from(
                    [b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"http://", b"CONNECT", b"[::1]", PREFACE]
                ),
                st.binary(max_size=4),
            ),
            max_size=14,
        )
    )
    @settings(max_examples=300, deadline=None)
    def test_survives(self, parts: list[bytes]) -> None:
        """Any bytes are read, refused or waited for."""
        self.survive(read_head, b"".join(parts))

    @given(
        st.from_regex(r"[A-Z]{1,8}", fullmatch=True),
        st.from_regex(r"/[!-~]{0,20}", fullmatch=True),
        st.lists(
            st.tuples(
                st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(lambda name: name != "host"),
                st.from_regex(r"([!-~]([!-~ ]{0,10}[!-~])?)?", fullmatch=True),
            ),
            max_size=5,
        ),
        st.integers(0, 5),
    )
    @settings(max_examples=100, deadline=None)
    def test_back(self, method: str, target: str, fields: list[tuple[str, str]], place: int) -> None:
        """A head is read as what it was made from, wherever its Host stands."""
        lines = [f"{name}: {value}" for name, value in fields]
        lines.insert(place, "Host: a.example:1")
        if method == "CONNECT":
            return
        request = self.read(read_head, head(target, *lines, method=method))
        self.assertEqual((request.method, request.target, request.host), (method, target, "a.example"))
        others = [(name, value.decode()) for name, value in request.fields if name != "host"]
        self.assertEqual(others, fields)
