"""Tests of `portfwd.rules.draft`: defaults, and whether options fit the rule."""

from __future__ import annotations

from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from portfwd.rules.model import ListenOptions, Options
from portfwd.rules.options import OPTIONS, Affects, Scope
from tests.rules.grammars.test_native import codes, rule


class PrecedenceTests(SynchronousTestCase):
    """Which of several values an option has."""

    def test_order(self) -> None:
        """A rule's own option, then ``default``, then rinetd-uv's global directive, then the built-in."""
        rules = parse(
            ":1 -> a:1\ndefault connect-timeout=2s\n:2 -> a:1\n"
            ":3 -> a:1 connect-timeout=3s\nconnect-timeout 4",
            "f",
        ).rules
        self.assertEqual([r.options.connect_timeout for r in rules], [4.0, 2.0, 3.0])

    def test_target(self) -> None:
        """A target's own option beats its rule's; the rule's hold for it otherwise."""
        found = rule(":1 -> a:1 connect-timeout=3s idle=5m\n  target b:1 connect-timeout=1s")
        self.assertEqual(found.targets[0].options, found.options)
        self.assertEqual(found.targets[1].options, Options(connect_timeout=1.0, idle=300.0))

    def test_undone(self) -> None:
        """A rule can undo a default."""
        self.assertEqual(
            rule("default idle=5m max-conns=5\n:1 -> a:1 idle=off max-conns=off").options, Options()
        )


class FitTests(SynchronousTestCase):
    """Options that only some rules can have."""

    def test_own(self) -> None:
        """An option that the rule cannot have is an error, wherever the rule is otherwise good."""
        for text in (
            ":1 mode=0600 -> a:1",
            ":1 cert=x -> a:1",
            "10.0.0.1:1 v6only=on -> a:1",
            "unix:/a v6only=on -> a:1",
            ":1 -> a:1 ca=x",
            ":1 -> unix:/a src=10.0.0.1",
            ":1 -> a:1 framing=none",
            ":1/udp -> a:1/udp framing=length16",
            ":1 -> tls:a:1\n  target b:1 verify=off",
        ):
            self.assertEqual(codes(text), ["option-does-not-fit"], text)

    def test_fitting(self) -> None:
        """What the rule, a clause or a route makes possible is accepted."""
        for text in (
            "unix:/a mode=0600 -> a:1",
            "tls::1 cert=x -> a:1",
            "[::1]:1 v6only=off -> a:1",
            "localhost:1 v6only=on -> a:1",
            ":1 -> a:1 ca=x\n  target tls:b:1",
            ":1 -> a:1 ca=x\n  filter sni\n  route * -> tls:b:1",
            ":1 -> a:1 ca=x\n  filter sni\n  route * -> b\n  target b=tls:b:1",
            ":1/udp -> a:1 framing=length16",
            ":1 -> unix:/a, a:1 src=10.0.0.1",
        ):
            self.assertEqual(codes(text), [], text)

    def test_defaults(self) -> None:
        """A default holds only for the rules that it fits, without a word."""
        rules = parse("default mode=0600 ca=x v6only=on\n10.0.0.1:1 -> a:1\nunix:/a -> tls:a:1\n", "f").rules
        self.assertEqual((rules[0].listen.options, rules[0].options), (ListenOptions(), Options()))
        self.assertEqual(
            (rules[1].listen.options, rules[1].options), (ListenOptions(mode=0o600), Options(ca="x"))
        )


#: What options of TLS act on.
OF_TLS: Final = {Affects.TLS_1_2, Affects.ALPN, Affects.CHECKED, Affects.CLIENT_CERT}
#: Rules of different kinds, with the place of an option of each side, and what no option acts on there.
KINDS: dict[str, set[Affects]] = {
    "10.0.0.1:1 {before} -> 10.0.0.5:1 {after}": {Affects.SEVERAL},
    "10.0.0.1:1 {before} -> 10.0.0.5:1, 10.0.0.6:1 {after}": set(),
    "unix:/a {before} -> unix:/b, unix:/c {after}": {Affects.TCP},
    "unix:/a {before} -> 10.0.0.5:1 {after}": {Affects.SEVERAL},
    "10.0.0.1:1 {before} -> tls:10.0.0.5:1 {after}": {
        Affects.SEVERAL,
        Affects.PIPES,
        Affects.CLIENT_CERT,
    },
    "10.0.0.1:1/udp {before} -> 10.0.0.5:1/udp {after}": set(Affects) - {Affects.ANY, *OF_TLS},
    "tls:10.0.0.1:1 cert=a {before} -> tls:10.0.0.5:1, tls:10.0.0.6:1 ca=a {after}": {
        Affects.PIPES,
        Affects.ALPN,
        Affects.CLIENT_CERT,
    },
    "10.0.0.1:1/udp {before} -> 10.0.0.5:1 {after}": {Affects.SEVERAL, Affects.PIPES, Affects.CONNECTIONS},
}


class EffectTests(SynchronousTestCase):
    """Options that act on nothing in a rule."""

    def codes(self, text: str) -> set[str]:
        """The codes of all problems and warnings of `text`."""
        try:
            return {one.code for one in parse(text, "f").warnings}
        except RulesError as refusal:
            return {one.code for one in refusal.problems}

    def test_every_option(self) -> None:
        """Each option in each kind of rule: it acts, or is refused, or there is a warning."""
        for pattern, unaffected in KINDS.items():
            for option in OPTIONS:
                word = f"{option.key}={option.undo}"
                before, after = (word, "") if option.scope is Scope.LISTENER else ("", word)
                codes = self.codes(pattern.format(before=before, after=after) + "\n")
                told = "option-without-effect" in codes
                self.assertEqual(told, option.affects in unaffected, (pattern, word, codes))

    def test_inherited(self) -> None:
        """A ``default`` line is for other rules too, so that it gives no warning."""
        self.assertEqual(self.codes("default half-close=1m\n10.0.0.1:1/udp -> 10.0.0.5:1/udp\n"), set())

    def test_tls(self) -> None:
        """Options of TLS beside others that leave nothing for them to act on, on each side."""
        listener = "tls:10.0.0.1:1 cert=a {} -> 10.0.0.5:1\n"
        target = "10.0.0.1:1 -> tls:10.0.0.5:1 {}\n"
        for pattern, options, warned in (
            (listener, "ciphers=HIGH", False),
            (listener, "ciphers=HIGH min-version=1.3", True),
            (listener, "alpn=h2 alpn-mismatch=ignore", False),
            (listener, "alpn-mismatch=ignore", True),
            (target, "ciphers=HIGH min-version=1.1", False),
            (target, "ciphers=HIGH min-version=1.3", True),
            (target, "ca=a", False),
            (target, "ca=a verify=off", True),
            (target, "ca=a crl=b pin=" + "a" * 64, False),
            (target, "crl=b pin=" + "a" * 64, True),
            (target, "client-cert=a client-key-password-file=b", False),
            (target, "client-key-password-file=b", True),
        ):
            codes = self.codes(pattern.format(options))
            self.assertEqual(codes, {"option-without-effect"} if warned else set(), (pattern, options))

    def test_targets(self) -> None:
        """An option of a ``target`` clause is judged by this target, one of the rule by all of them."""
        rule = "10.0.0.1:1 -> tls:a:1 {}\n  target tls:b:1 min-version=1.3 {}\n"
        self.assertEqual(self.codes(rule.format("ciphers=HIGH", "")), set())
        self.assertEqual(self.codes(rule.format("", "ciphers=HIGH")), {"option-without-effect"})

    def test_once(self) -> None:
        """An option that does not fit gets no warning besides the error."""
        self.assertEqual(self.codes("10.0.0.1:1 alpn-mismatch=ignore -> a:1\n"), {"option-does-not-fit"})
