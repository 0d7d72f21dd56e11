"""Tests of options and routes that use the handshake of a client."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Severity
from portfwd.filters import Factory, Side
from portfwd.rules import parse
from portfwd.service.build.factories import Factories
from portfwd.service.build.filters import filter_problems
from portfwd.service.tls.client_values import client_value_problems

BOTH = "server-name=client alpn=client"


class ClientValueTests(SynchronousTestCase):
    """`client_value_problems`."""

    def found(self, text: str) -> list[str]:
        """Place and text of each warning about the last rule of `text`."""
        ruleset = parse(text, "f")
        rule = ruleset.rules[-1]
        selection = Factories().select()
        self.assertEqual(filter_problems(ruleset, selection=selection), ())
        problems = list(client_value_problems(rule, selection.clauses(rule.name)))
        self.assertEqual(
            {(one.code, one.severity) for one in problems} - {("option-without-effect", Severity.WARNING)},
            set(),
        )
        self.assertTrue(all(one.hint for one in problems))
        return [f"{one.location.line}:{one.location.column}: {one.message.split(':')[0]}" for one in problems]

    def test_no_handshake(self) -> None:
        """Without TLS with clients there is neither name nor protocol, with and without ``filter sni``."""
        rule = f"10.0.0.1:1 -> tls:b:2 {BOTH}\n"
        self.assertEqual(
            self.found(rule),
            ["1:23: server-name=client has no effect here", "1:42: alpn=client has no effect here"],
        )
        self.assertEqual(len(self.found(f"{rule}  filter sni\n  route a.example -> tls:c:3\n")), 2)

    def test_target(self) -> None:
        """An option of one target is told at this target; targets without TLS have none."""
        self.assertEqual(
            self.found("10.0.0.1:1 -> a:1\n  target tls:b:2 server-name=client\n"),
            ["2:10: server-name=client has no effect here"],
        )

    def test_known(self) -> None:
        """A ``tls:`` listener knows the name, and the protocol if it has alpn=."""
        self.assertEqual(self.found(f"tls::1 cert=a alpn=h2 -> tls:b:2 {BOTH}\n"), [])
        self.assertEqual(
            self.found(f"tls::1 cert=a -> tls:b:2 {BOTH}\n"), ["1:45: alpn=client has no effect here"]
        )

    def test_filter(self) -> None:
        """A filter that starts TLS with clients knows them too."""
        rule = parse(f"10.0.0.1:1 -> tls:b:2 {BOTH}\n", "f").rules[0]
        factory = Factory(lambda connection: None, starts_tls={Side.CLIENT: {"cert": "a"}})
        (problem,) = client_value_problems(rule, [("own", factory)])
        self.assertIn("alpn=client", problem.message)

    def test_default(self) -> None:
        """A ``default`` line is for other rules too, so that it gives no warning."""
        self.assertEqual(self.found("default server-name=client target-alpn=client\n:1 -> tls:b:2\n"), [])

    def test_routes(self) -> None:
        """A route for a protocol needs it in alpn= of a ``tls:`` listener; the ClientHello has them all."""
        routes = "  filter sni\n  route alpn:h2 x.example alpn:HTTP/* -> a:1\n"
        for listener, warned in (
            ("10.0.0.1:1", []),
            ("tls::1 cert=a", ["3:9: 'alpn", "3:27: 'alpn"]),
            ("tls::1 cert=a alpn=h2", ["3:27: 'alpn"]),
            ("tls::1 cert=a alpn=H2,http/1.1", []),
        ):
            self.assertEqual(self.found(f"{listener} -> a:1\n{routes}"), warned, listener)
