"""Tests of `portfwd.admin.web.reading`: requests of HTTP as requests of the control socket."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.commands import COMMANDS
from portfwd.admin.operator import OperatorError
from portfwd.admin.requests import Request
from portfwd.admin.web.reading import find_command, methods, read_get, read_post


def get(path: str, query: str = "") -> Request:
    """What a GET asks for."""
    command, rest = find_command([one.encode() for one in path.split("/")])
    return read_get(command, rest, query.encode())


def post(name: str, body: object) -> Request:
    """What a POST asks for."""
    return read_post(COMMANDS[name], body if isinstance(body, bytes) else json.dumps(body).encode())


class ReadingTests(SynchronousTestCase):
    """Both methods."""

    def refused(self, call: object, *arguments: object, code: str = "bad-request") -> str:
        """The message of a refusal."""
        error = self.assertRaises(OperatorError, call, *arguments)  # type: ignore[arg-type]
        self.assertEqual(error.code, code)
        return str(error)

    def test_methods(self) -> None:
        """What looks is asked for by GET, what steers by POST, and what goes on by GET without HEAD."""
        expected = {
            "status": ("GET", "HEAD"),
            "top": ("GET",),
            "tap": ("GET",),
            "kill": ("POST",),
            "faults": ("GET", "HEAD", "POST"),
            "log-level": ("GET", "HEAD", "POST"),
        }
        self.assertEqual({name: methods(COMMANDS[name]) for name in expected}, expected)

    def test_get(self) -> None:
        """The query has the parameters, the path the number of a session."""
        self.assertEqual(
            get("sessions", "rule=a%20b&limit=5"), Request("sessions", (), {"rule": "a b", "limit": "5"})
        )
        self.assertEqual(get("session/7"), Request("session", ("7",)))
        self.assertEqual(get("tap/7", "limit=1"), Request("tap", ("7",), {"limit": "1"}))
        self.assertEqual(get("targets", "rule=web"), Request("targets", ("web",)))
        self.assertEqual(
            get("explain", "listen=%3A80&client=192.0.2.1"), Request("explain", ("192.0.2.1", ":80"))
        )
        self.assertEqual(get("faults"), Request("faults"))

    def test_bad_get(self) -> None:
        """What is unknown, given twice, or no text is refused."""
        for path, query in (
            ("sessions", "rules=web"),
            ("sessions", "limit=1&limit=2"),
            ("sessions", "rule=%FF"),
            ("sessions", "rule=\N{LATIN SMALL LETTER E WITH ACUTE}"),
            ("sessions", "&".join(f"a{number}=1" for number in range(40))),
            ("faults", "what=on"),
            ("faults", "delay=1s"),
            ("log-level", "level=debug"),
            ("explain", "listen=%3A80"),
            ("sessions", "rule=a%0Ab"),
        ):
            self.refused(get, path, query)
        self.refused(get, "sessions", "rule=" + "a" * 5000, code="line-too-long")
        command, _ = find_command([b"session", b"1"])
        self.refused(read_get, command, [b"\xff"], b"")

    def test_find(self) -> None:
        """A resource that is not there is refused, with one that is meant perhaps."""
        self.assertIn("did you mean 'sessions'", self.refused(get, "sesions", code="unknown-command"))
        self.assertIn("openapi.json", self.refused(get, "xyzzy", code="unknown-command"))
        for path in ("session", "session/1/2", "status/1"):
            self.refused(get, path, code="unknown-command")
        self.refused(find_command, [], code="unknown-command")

    def test_post(self) -> None:
        """The body has the parameters: words, options, lists and flags."""
        for name, body, expected in (
            ("kill", {"id": [1, 2]}, Request("kill", ("1", "2"))),
            ("kill", {"rule": "web"}, Request("kill", (), {"rule": "web"})),
            ("reload", {"dry-run": True, "code": False}, Request("reload", ("dry-run",))),
            ("reload", b"", Request("reload")),
            ("faults", {"rule": "lab", "what": "on"}, Request("faults", ("lab", "on"))),
            (
                "faults",
                {"delay": "1s", "which": "latency", "what": "set", "rule": "lab"},
                Request("faults", ("lab", "set", "latency"), {"delay": "1s"}),
            ),
            ("log-level", {"level": "debug"}, Request("log-level", ("debug",))),
            ("pause", {"rule": "level=up"}, Request("pause", ("level=up",))),
            ("pause", {"rule": 'a "b" c'}, Request("pause", ('a "b" c',))),
        ):
            self.assertEqual(post(name, body), expected)

    def test_bad_post(self) -> None:
        """What is no object, unknown, missing or of another type is refused."""
        for name, body in (
            ("kill", b"{"),
            ("kill", b"[" * 10000),
            ("kill", b"[]"),
            ("kill", b"\xff"),
            ("kill", {"id": 1}),
            ("kill", {"id": []}),
            ("kill", {"id": ["1"]}),
            ("kill", {"id": [True]}),
            ("kill", {"rules": "web"}),
            ("pause", {}),
            ("pause", {"rule": 1}),
            ("pause", {"rule": None}),
            ("pause", {"rule": "a\nb"}),
            ("reload", {"dry-run": "yes"}),
            ("faults", {"rule": "lab"}),
            ("faults", {"what": "on"}),
            ("log-level", {}),
        ):
            self.refused(post, name, body)

    @given(st.text(min_size=1, max_size=40))
    def test_texts(self, text: str) -> None:
        """A text means itself by both methods, or is refused."""
        for ask in (
            lambda: get("targets", f"rule={quote(text, errors='surrogatepass')}"),
            lambda: post("pause", {"rule": text}),
        ):
            try:
                request = ask()
            except OperatorError as error:
                self.assertIn(error.code, ("bad-request", "line-too-long"))
            else:
                self.assertEqual(request.words, (text,))


class RepeatedKeyTests(SynchronousTestCase):
    """A JSON object with a key twice."""

    def test_refused(self) -> None:
        """Two readers could take different values, so it is refused, as in a query."""
        for body in (b'{"rule":"a","rule":"b"}', b'{"rule":"a","\\u0072ule":"a"}', b'{"rule":{"a":1,"a":1}}'):
            error = self.assertRaises(OperatorError, post, "pause", body)
            self.assertEqual((error.code, "given twice" in str(error)), ("bad-request", True))
