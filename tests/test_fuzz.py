"""
Whatever comes in, nothing but the errors that are meant comes out: every parser, every built-in filter.

A run has a few examples of each kind, with ``PORTFWD_TESTS=deep`` fifty times as many. That reading
takes time in proportion to the length is `tests.test_growth`'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.commands import COMMANDS, serve
from portfwd.admin.operator import OperatorError
from portfwd.admin.requests import RequestError, read_request
from portfwd.errors import RulesError
from portfwd.filters import InetAddress, option_kinds
from portfwd.filters.builtin.http_connect import PLUGIN as HTTP_CONNECT
from portfwd.filters.builtin.http_host import PLUGIN as HTTP_HOST
from portfwd.filters.builtin.proxies import ProxyOptions
from portfwd.filters.builtin.proxy_in import PLUGIN as PROXY_IN
from portfwd.filters.builtin.sni import PLUGIN as SNI
from portfwd.filters.builtin.sniff import PLUGIN as SNIFF
from portfwd.filters.builtin.socks5 import PLUGIN as SOCKS5
from portfwd.filters.builtin.users import hash_password, read_users
from portfwd.quantities import parse_duration, parse_size
from portfwd.rules.access import check_pattern
from portfwd.rules.addresses import Role, read_place
from portfwd.rules.codes import CODES
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.load import parse, parse_toml
from portfwd.rules.options import OPTIONS
from portfwd.rules.tokens import Word
from portfwd.wire import WireError
from portfwd.wire.client_hello import read_client_hello
from portfwd.wire.http_head import read_head
from portfwd.wire.proxy import read_header
from portfwd.wire.proxy_tlvs import read_client_tls, read_tlvs
from portfwd.wire.socks5 import read_credentials, read_greeting
from portfwd.wire.socks5 import read_request as read_socks_request
from tests.admin.fakes import Client, FakeOperator, FakeSession
from tests.filters.feeding import Talk
from tests.integration.case import deep
from tests.rules.golden import GoldenFiles

EXAMPLES = 5_000 if deep() else 100
fuzz = settings(max_examples=EXAMPLES, deadline=None)

#: Words that mean something somewhere; texts are made of them and of anything.
WORDS = (
    "->", ":", "::", ":1", "127.0.0.1", "[::1]", "unix:", "tls:", "udp:", "endpoint:", "systemd:", '"',
    "\\", "#", "\n", " ", "  ", "\t", "=", ",", "/", "-", "*", "?", "0", "65536", "1h30m", "64KiB", "on",
    "off", "allow", "deny", "filter", "route", "target", "default", "include", "admin", "manhole",
    "metrics", "web", "limits", "log", "idle=", "cert=", "mode=", "relay=", "[", "]", "(", ")", "{", "}",
    "sessions", "top", "kill", "faults", "tap", "explain", "rule=", "client=", "limit=", "interval=",
    "[[forwarding_rules]]", "bind_port", "'''", "\ufeff", "\u2028", "\0", "\ud800", "x" * 300, "9" * 60,
    "::ffff:", "%eth0", "a.b.", "HTTP/1.1\r\n", "Host: ", "CONNECT ", "GET / ", "PROXY TCP4 ",
    "\r\n\r\n",
)  # fmt: skip
some_text = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=30).map("".join)
PIECES = (
    b"\x16\x03\x01", b"\x01\x00", b"\x00", b"\xff\xff", b"\x05\x01\x00", b"\x05\x02\x00\x02",
    b"\x01\x05alice\x06secret", b"\r\n\r\n\x00\r\nQUIT\n", b"\x21\x11\x00\x0c", b"PROXY TCP4 ",
    b"127.0.0.1 ", b"1 ", b"\r\n", b"GET / HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"Host: a\r\n",
    b"Proxy-Authorization: Basic YTpi\r\n", b"\x03\x03", b"\x00\x2f", b"\x05\x01\x00\x03\x01a\x00\x50",
    b"SSH-2.0-", b"x" * 300,
)  # fmt: skip
some_bytes = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=30).map(b"".join)


class ValueTests(SynchronousTestCase):
    """Values of options."""

    @given(some_text)
    @fuzz
    def test_values(self, text: str) -> None:
        """Readers of values raise `ValueError`, whatever they are given."""
        readers: list[Callable[[str], object]] = [parse_duration, parse_size, check_pattern, read_users]
        readers += [option.value for option in OPTIONS]
        readers += [one for one in vars(option_kinds).values() if isinstance(one, option_kinds.OptionKind)]
        readers += [
            lambda text, role=role: read_place(Word(text, 1, len(text), len(text)), role, lambda *_: None)
            for role in Role
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of `re`, about sets within sets
            for read in readers:
                try:
                    read(text)
                except ValueError as error:
                    self.assertTrue(str(error))


class FileTests(SynchronousTestCase):
    """Rules files."""

    def check(self, read: Callable[..., Any], text: str) -> None:
        """Read it; what is refused has codes that are known, and can be printed."""
        try:
            read(text, "f", GoldenFiles())
        except RulesError as error:
            self.assertLessEqual({problem.code for problem in error.problems}, set(CODES))
            for problem in error.problems:
                for line in format_problem(problem).split("\n"):
                    self.assertTrue(line.replace("\t", " ").isprintable(), ascii(line))

    @given(some_text)
    @fuzz
    def test_native(self, text: str) -> None:
        """The native grammar and rinetd's."""
        self.check(parse, text)

    @given(some_text)
    @fuzz
    def test_toml(self, text: str) -> None:
        """TOML."""
        self.check(parse_toml, text)


class RequestTests(SynchronousTestCase):
    """The control socket."""

    @given(st.sampled_from(sorted(COMMANDS)) | st.just(""), some_text)
    @fuzz
    def test_requests(self, command: str, text: str) -> None:
        """A request is refused with a reason, or answered."""
        client = Client(FakeOperator(FakeSession(1)))
        try:
            request = read_request(f"{command} {text}".encode("utf-8", "surrogatepass"))
        except RequestError as error:
            self.assertTrue(error.code)
            return
        if request is None:
            return
        serving = Deferred.fromCoroutine(serve(client.caller, request))
        for _ in range(4):
            client.clock.advance(0)
        serving.addErrback(lambda failure: failure.trap(OperatorError))
        serving.cancel()
        serving.addErrback(lambda failure: None)


class WireTests(SynchronousTestCase):
    """What clients send."""

    @given(some_bytes)
    @fuzz
    def test_wire(self, data: bytes) -> None:
        """Readers of protocols raise `WireError`, or say what more they need."""
        for read in (
            read_client_hello, read_head, read_header, read_tlvs, read_client_tls, read_greeting,
            read_credentials, read_socks_request,
        ):  # fmt: skip
            try:
                read(data)  # type: ignore[operator]
            except WireError as error:
                self.assertTrue(str(error).isprintable())

    @given(some_bytes, st.integers(1, 40))
    @fuzz
    def test_filters(self, data: bytes, size: int) -> None:
        """No built-in filter raises, however the bytes are cut; what is dialled is an address."""
        users = read_users(hash_password("alice", "secret", b"sixteen bytes...", 1000))
        for plugin, options in (
            (SOCKS5, {}), (SOCKS5, {"users": users}), (HTTP_CONNECT, {}), (HTTP_CONNECT, {"users": users}),
            (HTTP_HOST, {}), (SNI, {}), (SNIFF, {}), (PROXY_IN, {}),
        ):  # fmt: skip
            made = ProxyOptions(**options) if plugin in (SOCKS5, HTTP_CONNECT) else _defaults(plugin)
            talk = Talk(plugin.configure(made, ()))  # which raises what a filter raises
            if talk.untouched:
                continue
            for place in range(0, len(data), size):
                if talk.finish is None:
                    talk.say(data[place : place + size])
            if talk.dial is not None and talk.dial.target is not None:
                self.assertIsInstance(talk.dial.target, InetAddress)


def _defaults(plugin: Any) -> Any:
    if plugin is PROXY_IN:
        return plugin.options(trust=option_kinds.networks("0.0.0.0/0"))
    return plugin.options()
