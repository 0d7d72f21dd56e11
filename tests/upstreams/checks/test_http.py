"""Tests of the check ``http``."""

from __future__ import annotations

from portfwd.upstreams.checks.api import Subject
from tests.upstreams.checks.talking import CheckCase, check


class HTTPTests(CheckCase):
    """Requests and answers."""

    def test_request(self) -> None:
        """The path and the host are asked for by HTTP/1.0."""
        made = check("http", path="/health?a=b", host="example.com")
        request = (
            b"GET /health?a=b HTTP/1.0\r\nHost: example.com\r\nUser-Agent: portfwd-check\r\n"
            b"Connection: close\r\n\r\n"
        )
        self.assertEqual(
            self.judge(made, b"HTTP/1.1 204 No Content\r\n", sent=[request]), (True, "status 204")
        )
        six = check("http").begin(Subject("x", "::1", 80))
        self.assertIn(b"Host: [::1]\r\n", six.opened().send)
        unix = check("http").begin(Subject("unix:/x"))
        self.assertIn(b"Host: localhost\r\n", unix.opened().send)

    def test_statuses(self) -> None:
        """Without ``status`` 2xx and 3xx pass; else those that are named."""
        for status, line, passes in (
            (None, b"200 OK", True),
            (None, b"302 Found", True),
            (None, b"404 Not Found", False),
            ("404", b"404 Not Found", True),
            ("200,5xx", b"503 Busy", True),
            ("200", b"201 Created", False),
        ):
            made = check("http", **({} if status is None else {"status": status}))
            passed, cause = self.judge(made, b"HTTP/1.1 " + line + b"\r\n")
            self.assertEqual(passed, passes, line)
            if not passes:
                self.assertEqual(cause, f"status {line.decode()}")

    def test_expect(self) -> None:
        """A text must stand in the answer, however it is split; without it the end is a failure."""
        made = check("http", expect="fine")
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        self.assertEqual(self.judge(made, head + b"all is fine"), (True, "status 200"))
        self.assertEqual(self.judge(made, head, b"not well", None), (False, "'fine' is not in the answer"))

    def test_no_http(self) -> None:
        """What does not answer by HTTP/1 fails, with what it said."""
        self.assertEqual(
            self.judge(check("http"), b"SSH-2.0-x\r\n"), (False, "no answer of HTTP/1: SSH-2.0-x")
        )
        self.assertFalse(self.judge(check("http"), None)[0])

    def test_options(self) -> None:
        """Blanks and control characters cannot be smuggled into the request; a status is one."""
        for key, value in (("path", "/ x"), ("host", "a\r\nb"), ("status", "20"), ("status", "6xx")):
            self.assertRaises(ValueError, check, "http", **{key: value})
