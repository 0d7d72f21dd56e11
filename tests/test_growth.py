"""Reading anything that a client or an operator writes takes time in proportion to its length."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.commands import COMMANDS, serve
from portfwd.admin.requests import Request, read_request
from portfwd.errors import RulesError
from portfwd.filters import option_kinds
from portfwd.filters.builtin.users import read_users
from portfwd.quantities import parse_duration, parse_size
from portfwd.rules import format_problem, parse, parse_json, parse_toml, parse_yaml
from portfwd.rules.access import check_pattern
from portfwd.rules.addresses import Role, read_place
from portfwd.rules.options import OPTIONS
from portfwd.rules.queries.explain import explain
from portfwd.rules.tokens import Word
from portfwd.values import is_literal, printable, unmapped
from portfwd.wire.client_hello import read_client_hello
from portfwd.wire.http_head import read_head
from portfwd.wire.proxy import read_header
from portfwd.wire.proxy_tlvs import read_client_tls, read_tlvs
from portfwd.wire.proxy_v1 import read_v1
from portfwd.wire.proxy_v2 import read_v2
from portfwd.wire.socks5 import read_credentials, read_greeting
from portfwd.wire.socks5 import read_request as read_socks_request
from tests.admin.fakes import Client, FakeOperator, FakeSession
from tests.growth import FILE_SIZES, REQUEST_SIZES, too_slow

RULES = parse("web: :80 -> 10.0.0.5:80\n  allow 10.0.0.0/8\nunix:/run/a.sock -> 10.0.0.6:80\n", "r")


def place(text: str, role: Role) -> object:
    """Read an address as a rules file has it."""
    return read_place(Word(text, 1, len(text), len(text)), role, lambda name, protocol: None)


def whole(read: Callable[[str, str], object], text: str) -> None:
    """Read a file and write what is wrong with it."""
    try:
        read(text, "file")
    except RulesError as error:
        for problem in error.problems:
            format_problem(problem)


class GrowthTests(SynchronousTestCase):
    """Each reader alone, with long texts of all kinds."""

    def check(
        self, read: Callable[[str], object], *prefixes: str, what: object = "", sizes: tuple[int, ...] = ()
    ) -> None:
        """`read` is in proportion."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of `re`, about sets within sets
            slow = too_slow(read, *prefixes, **({"sizes": sizes} if sizes else {}))
        self.assertEqual(slow, "", what)

    def test_values(self) -> None:
        """Durations, sizes, addresses and what is made printable."""
        for read in (parse_duration, parse_size, printable, is_literal, unmapped, check_pattern):
            self.check(read, what=read)
        for role in Role:
            self.check(lambda text, role=role: place(text, role), what=role)

    def test_options(self) -> None:
        """The values of every option of a rule."""
        kinds = {option.unit: option for option in OPTIONS if " | " not in option.unit}
        for option in (*kinds.values(), next(one for one in OPTIONS if one.key == "keepalive")):
            self.check(option.value, what=option.key)

    def test_filter_options(self) -> None:
        """The values of options of filters, and the file of users."""
        for name, kind in vars(option_kinds).items():
            if isinstance(kind, option_kinds.OptionKind):
                self.check(kind, what=name)
        self.check(read_users, "alice:pbkdf2-sha256$1000$", what="users")

    def test_requests(self) -> None:
        """A request of the control socket is cut into words."""
        self.check(lambda text: read_request(text.encode()))

    def test_control(self) -> None:
        """Every command of the control socket, with long words and long options."""
        client = Client(FakeOperator(FakeSession(1)))

        def ask(request: Request) -> None:
            Deferred.fromCoroutine(serve(client.caller, request)).addErrback(lambda failure: None)
            client.clock.advance(0)

        for command in COMMANDS.values():
            if command.words:
                self.check(
                    lambda text, command=command: ask(Request(command.name, (text,) * command.needed)),
                    what=command.name,
                    sizes=REQUEST_SIZES,
                )
            for key in (one.name for one in command.options):
                words = ("1",) * command.needed
                self.check(
                    lambda text, command=command, key=key, words=words: ask(
                        Request(command.name, words, {key: text})
                    ),
                    what=f"{command.name} {key}=",
                    sizes=REQUEST_SIZES,
                )
        self.check(lambda text: explain(RULES, text, ":80"), what="explain's client")
        self.check(lambda text: explain(RULES, "10.0.0.1", text), what="explain's listener")

    def test_rules_file(self) -> None:
        """A file of rules, and all that is said of what is wrong with it."""
        self.check(
            lambda text: whole(parse, text),
            "",
            ":1 -> ",
            ":1 -> a:1 idle=",
            "web: :80 -> b:1\n  allow ",
            ":1 -> a:1\n  filter match ",
            sizes=FILE_SIZES,
        )

    def test_toml_file(self) -> None:
        """The same as TOML; a dotted key, of which tomllib needs the square, is bounded."""
        self.check(
            lambda text: whole(parse_toml, text), "", "a=", "[[forwarding_rules]]\n", "[", sizes=FILE_SIZES
        )

    def test_yaml_file(self) -> None:
        """The same as YAML; what refers to itself, or is deep, is refused."""
        self.check(
            lambda text: whole(parse_yaml, text),
            "",
            "rules:\n- bind: ",
            "rules: [",
            sizes=FILE_SIZES,
        )

    def test_json_file(self) -> None:
        """The same as JSON."""
        self.check(lambda text: whole(parse_json, text), "", '{"endpoints": [', '{"a": "', sizes=FILE_SIZES)

    def test_wire(self) -> None:
        """What clients say before they are let in: PROXY headers, ClientHellos, heads, SOCKS."""
        for read, prefix in (
            (read_header, b""), (read_v1, b"PROXY TCP4 "), (read_v2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
            (read_tlvs, b""), (read_client_tls, b"\1\0\0\0\0"),
            (read_client_hello, b""), (read_client_hello, b"\x16\x03\x01\x00\x01\x01" * 40),
            (read_head, b""), (read_head, b"CONNECT a:1 HTTP/1.1\r\n"),
            (read_head, b"GET / HTTP/1.1\r\nHost: "),
            (read_greeting, b"\5"), (read_credentials, b"\1"), (read_socks_request, b"\5\1\0\3"),
        ):  # fmt: skip
            self.check(lambda text, read=read, prefix=prefix: read(prefix + text.encode()), what=read)
