"""Tests of `portfwd.rules.admin_lines`: ``admin``, ``web``, ``manhole`` and ``toxiproxy``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse, parse_rule
from portfwd.rules.admin_lines import (
    AdminSpec,
    Level,
    ManholeSpec,
    ToxiproxySpec,
    WebSpec,
    admin_specs,
    manhole_specs,
    toxiproxy_spec,
    web_specs,
)
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, PortRange
from portfwd.rules.queries.render import render
from portfwd.values import InetAddress, UnixAddress

ADMIN = "admin unix:/run/a.sock"
MANHOLE = "manhole ssh:127.0.0.1:2222 keys=k"


def codes(text: str) -> list[tuple[str, int, int]]:
    """What is wrong, and where."""
    try:
        parse(text, "f")
    except RulesError as error:
        return [(one.code, one.location.line, one.location.column) for one in error.problems]
    return []


class AdminTests(SynchronousTestCase):
    """``admin``."""

    def test_lines(self) -> None:
        """A path, who may connect and what they may do; several lines are several sockets."""
        ruleset = parse(f"{ADMIN}\nadmin unix:b.sock mode=0666 level=read\nadmin unix:c level=operator", "f")
        self.assertEqual(
            admin_specs(ruleset),
            (
                AdminSpec("/run/a.sock", 0o600, Level.OPERATOR),
                AdminSpec("b.sock", 0o666, Level.READ),
                AdminSpec("c", 0o600, Level.OPERATOR),
            ),
        )
        self.assertEqual(str(admin_specs(ruleset)[1].where), "f:2:1")
        self.assertEqual(manhole_specs(ruleset), ())

    def test_refused(self) -> None:
        """What is no path of this machine, or would let everybody steer, is refused where it stands."""
        for text, expected in (
            ("admin", [("missing-argument", 1, 1)]),
            ("admin 127.0.0.1:9000", [("bad-address", 1, 7)]),
            ("admin unix:", [("bad-path", 1, 12)]),
            ("admin unix:@name", [("bad-path", 1, 12)]),
            (f"{ADMIN} mode=0666", [("bad-value", 1, 7)]),
            (f"{ADMIN} mode=rw", [("bad-value", 1, 29)]),
            (f"{ADMIN} level=root", [("bad-value", 1, 30)]),
            (f"{ADMIN} modes=0600", [("unknown-option", 1, 24)]),
            (f"{ADMIN} mode=0600 mode=0600", [("duplicate-option", 1, 34)]),
            (f"{ADMIN} more", [("unexpected-word", 1, 24)]),
            (f"{ADMIN}\n{ADMIN} level=read", [("listen-clash", 2, 1)]),
        ):
            self.assertEqual(codes(text), expected, text)

    def test_hint(self) -> None:
        """A refusal names the way out."""
        for text, hint in (
            (f"{ADMIN} modes=0600", "did you mean 'mode'?"),
            (f"{ADMIN} mode=0666", "mode=0660"),
            ("admin localhost:1", "such as admin unix:"),
        ):
            error = self.assertRaises(RulesError, parse, text, "f")
            self.assertIn(hint, error.problems[0].hint)


class WebTests(SynchronousTestCase):
    """``web``."""

    def test_lines(self) -> None:
        """A port or a path, who may do what, and by which names it is known."""
        text = (
            "web 127.0.0.1:8080\n"
            "web [::1]:8081 level=operator token-file=t host=Portfwd.example.com,b\n"
            "web unix:/run/w level=operator\n"
            "web unix:w mode=0666\n"
            "web unix:v mode=0666 level=operator token-file=t\n"
        )
        port, other = PortRange(8080, 8080), PortRange(8081, 8081)
        self.assertEqual(
            web_specs(parse(text, "f")),
            (
                WebSpec(ListenSpec(Kind.TCP, "127.0.0.1", port)),
                WebSpec(
                    ListenSpec(Kind.TCP, "::1", other), Level.OPERATOR, "t", ("portfwd.example.com", "b")
                ),
                WebSpec(
                    ListenSpec(Kind.UNIX, path="/run/w", options=ListenOptions(mode=0o600)), Level.OPERATOR
                ),
                WebSpec(ListenSpec(Kind.UNIX, path="w", options=ListenOptions(mode=0o666))),
                WebSpec(
                    ListenSpec(Kind.UNIX, path="v", options=ListenOptions(mode=0o666)), Level.OPERATOR, "t"
                ),
            ),
        )

    def test_refused(self) -> None:
        """What would let everybody steer, and what is no address, is refused where it stands."""
        for text, expected in (
            ("web", ("missing-argument", 1, 1)),
            ("web level=read", ("missing-argument", 1, 1)),
            ("web 127.0.0.1", ("missing-port", 1, 5)),
            ("web 127.0.0.1:80-81", ("bad-address", 1, 5)),
            ("web udp:127.0.0.1:80", ("bad-address", 1, 5)),
            ("web tls:127.0.0.1:80", ("bad-address", 1, 5)),
            ("web unix:@x", ("bad-path", 1, 10)),
            ("web unix:", ("bad-path", 1, 10)),
            ("web 127.0.0.1:80 level=operator", ("missing-argument", 1, 5)),
            ("web 127.0.0.1:80 mode=0600", ("option-does-not-fit", 1, 5)),
            ("web unix:x mode=0666 level=operator", ("bad-value", 1, 5)),
            ("web 127.0.0.1:80 host=a,", ("bad-host", 1, 5)),
            ("web 127.0.0.1:80 host=a:80", ("bad-host", 1, 5)),
            ("web 127.0.0.1:80 token=x", ("unknown-option", 1, 18)),
            ("web 127.0.0.1:80\nmetrics 127.0.0.1:80", ("listen-clash", 2, 1)),
            ("web 127.0.0.1:80\n127.0.0.1:80 -> a:1", ("listen-clash", 2, 1)),
            ("admin unix:x\nweb unix:./x", ("listen-clash", 2, 1)),
        ):
            self.assertEqual(codes(text), [expected], text)


class ManholeTests(SynchronousTestCase):
    """``manhole``."""

    def test_lines(self) -> None:
        """A port of the loopback or a path, whose keys, and a key of its own."""
        text = f'{MANHOLE}\nmanhole ssh:[::1]:2223 keys=k host-key=h\nmanhole unix:/run/s/ssh keys="a b"\n'
        ruleset = parse(text, "f")
        self.assertEqual(
            manhole_specs(ruleset),
            (
                ManholeSpec(InetAddress("127.0.0.1", 2222), "k"),
                ManholeSpec(InetAddress("::1", 2223), "k", "h"),
                ManholeSpec(UnixAddress("/run/s/ssh"), "a b"),
            ),
        )

    def test_refused(self) -> None:
        """What others could reach, and what has no keys, is refused."""
        for text, expected in (
            ("manhole", ("missing-argument", 1, 1)),
            ("manhole ssh:127.0.0.1:2222", ("missing-argument", 1, 9)),
            ("manhole 127.0.0.1:2222 keys=k", ("bad-address", 1, 9)),
            ("manhole ssh:0.0.0.0:2222 keys=k", ("bad-address", 1, 13)),
            ("manhole ssh::2222 keys=k", ("bad-address", 1, 13)),
            ("manhole ssh:localhost:2222 keys=k", ("bad-address", 1, 13)),
            ("manhole ssh:127.0.0.1:22-23 keys=k", ("bad-address", 1, 13)),
            ("manhole ssh:unix:/run/x keys=k", ("bad-address", 1, 13)),
            ("manhole unix:@x keys=k", ("bad-path", 1, 14)),
            (f"{MANHOLE}\n{MANHOLE}", ("listen-clash", 2, 1)),
            (f"{MANHOLE} password=x", ("unknown-option", 1, 35)),
        ):
            self.assertEqual(codes(text), [expected], text)
        self.assertEqual(len(codes("manhole ssh:127.0.0.1:http-x keys=k")), 1)


class ToxiproxyTests(SynchronousTestCase):
    """``toxiproxy``."""

    def test_good(self) -> None:
        """An address of the loopback, or a file; the last line counts, and a file with it needs no rule."""
        for text, spec in (
            ("toxiproxy localhost:8474", ToxiproxySpec(InetAddress("127.0.0.1", 8474))),
            ("toxiproxy [::1]:1 config=a.json seed=7", ToxiproxySpec(InetAddress("::1", 1), "a.json", 7)),
            ("toxiproxy unix:/run/t/s", ToxiproxySpec(UnixAddress("/run/t/s"))),
            (
                "toxiproxy localhost:1 host=A.example,b",
                ToxiproxySpec(InetAddress("127.0.0.1", 1), hosts=("a.example", "b")),
            ),
            ("toxiproxy :8474 remote=on", ToxiproxySpec(InetAddress("::", 8474))),
            ("toxiproxy 10.0.0.1:8474 remote=on", ToxiproxySpec(InetAddress("10.0.0.1", 8474))),
            ("toxiproxy localhost:1\ntoxiproxy localhost:2", ToxiproxySpec(InetAddress("127.0.0.1", 2))),
        ):
            self.assertEqual(toxiproxy_spec(parse(text, "f")), spec)
        self.assertIsNone(toxiproxy_spec(parse(":1 -> a:1", "f")))
        alone = toxiproxy_spec(parse_rule("toxiproxy localhost:1"))
        self.assertEqual(alone, ToxiproxySpec(InetAddress("127.0.0.1", 1)))

    def test_refused(self) -> None:
        """What others could reach needs a word of consent; what is no address is none."""
        for text, expected in (
            ("toxiproxy", ("missing-argument", 1, 1)),
            ("toxiproxy :8474", ("bad-address", 1, 11)),
            ("toxiproxy 0.0.0.0:8474 remote=off", ("bad-address", 1, 11)),
            ("toxiproxy db.example:1", ("bad-address", 1, 11)),
            ("toxiproxy localhost:1-2", ("bad-address", 1, 11)),
            ("toxiproxy localhost:1/udp", ("bad-address", 1, 11)),
            ("toxiproxy localhost:1 host=a:1", ("bad-host", 1, 11)),
            ("toxiproxy unix:@x", ("bad-path", 1, 16)),
            ("toxiproxy localhost:1 seed=x", ("bad-value", 1, 28)),
            ("toxiproxy localhost:1 sed=1", ("unknown-option", 1, 23)),
            ("toxiproxy localhost:1\n127.0.0.1:1 -> a:1", ("listen-clash", 2, 1)),
        ):
            self.assertEqual(codes(text), [expected], text)


class WholeTests(SynchronousTestCase):
    """Both, as parts of a file."""

    def test_written_back(self) -> None:
        """What `render` writes means the same."""
        text = f'{ADMIN} mode=0660\nmanhole unix:"/run/a b/ssh" keys="my keys"\n:1 -> a:1\n'
        text += 'web unix:"/run/a b/web" level=operator token-file="my token" host=a,b\nweb [::1]:8080\n'
        ruleset = parse(text, "f")
        again = parse(render(ruleset), "f")
        self.assertEqual(admin_specs(again), admin_specs(ruleset))
        self.assertEqual(manhole_specs(again), manhole_specs(ruleset))
        self.assertEqual(web_specs(again), web_specs(ruleset))

    def test_no_rule(self) -> None:
        """A rule of the command line cannot be one."""
        self.assertRaises(RulesError, parse_rule, ADMIN, "--rule")
