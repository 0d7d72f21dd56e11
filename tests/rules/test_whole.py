"""Tests of `portfwd.rules.whole`: what only all rules together show."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from tests.rules.grammars.test_native import codes


class NameTests(SynchronousTestCase):
    """Names are unique."""

    def test_twice(self) -> None:
        """The same name twice is refused; the same listener without names is one problem, not two."""
        self.assertEqual(codes("a: :1 -> x:1\na: :2 -> x:1"), ["duplicate-name"])
        self.assertEqual(codes(":1 -> x:1\n:1 -> x:1"), ["listen-clash"])
        self.assertEqual(codes("a: :1 -> x:1\na: :1 -> x:1"), ["duplicate-name", "listen-clash"])
        self.assertEqual(codes(":0 -> x:1\n:0 -> x:1"), ["duplicate-name"])
        self.assertEqual(codes('endpoint:"a" -> x:1\nendpoint:"a" -> x:1'), ["duplicate-name"])


class ListenerTests(SynchronousTestCase):
    """Listeners are apart."""

    def test_clash(self) -> None:
        """The same address, however it is spelt, and ranges that touch."""
        for one, two in (
            (":1", "*:1"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:1", "[0:0:0::1]:1"),
            ("Host:1", "host.:1"),
            (":1-9", ":9-12"),
            (":1-9", ":5"),
            ("tls::1", ":1"),
            ("unix:/a", "unix:/a"),
            ("unix:/a", "unix:/./a"),
            ("unix:a", "unix:b/../a"),
            ("unix:/a", "unix://a"),
            ("unix:/a", "unix-dgram:/a"),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1"),
            ("localhost:1", "127.0.0.1:1"),
            ("LOCALHOST.:1", "[::1]:1"),
            ("localhost:1", "localhost:1"),
            ("systemd:a", "systemd:a"),
            (":1/udp", "udp::1"),
        ):
            first, second = f"a: {one} -> unix:/x", f"b: {two} -> unix:/x"
            for text in (f"{first}\n{second}", f"{second}\n{first}"):
                error = self.assertRaises(RulesError, parse, text, "f")
                self.assertEqual(
                    [(p.code, p.location.line) for p in error.problems], [("listen-clash", 2)], text
                )

    def test_apart(self) -> None:
        """TCP and UDP share a port; so do any two free ports and endpoints that only Twisted knows."""
        for one, two in (
            (":1", ":1/udp"),
            (":1-9", ":10"),
            (":0", ":0"),
            ("10.0.0.1:1", "10.0.0.2:1"),
            ('endpoint:"a"', 'endpoint:"a"'),
            ("unix:/a", "systemd:/a"),
            ("0.0.0.0:1", "[::]:1"),
        ):
            self.assertEqual(codes(f"a: {one} -> unix:/x\nb: {two} -> unix:/x"), [], (one, two))

    def test_whole_process(self) -> None:
        """Lines for operators are compared with rules and with each other."""
        keys = "keys=/etc/keys"
        for one, two, code in (
            ("admin unix:/run/x", "unix:/run/./x -> a:1", "listen-clash"),
            ("metrics unix:/run/x", "unix-dgram:/run/x -> udp:a:1", "listen-clash"),
            ("metrics 127.0.0.1:9100", "localhost:9100 -> a:1", "listen-clash"),
            ("metrics 127.0.0.1:9100", ":9000-9200 -> unix:/x", "listen-overlap"),
            (f"manhole ssh:127.0.0.1:2222 {keys}", "[::ffff:127.0.0.1]:2222 -> a:1", "listen-clash"),
            (f"manhole ssh:127.0.0.1:2222 {keys}", "metrics 127.0.0.1:2222", "listen-clash"),
            (f"manhole unix:/run/x {keys}", "admin unix:/run//x", "listen-clash"),
            ("admin unix:/run/x", "admin unix:/run/x level=read", "listen-clash"),
        ):
            for text in (f"{one}\n{two}", f"{two}\n{one}"):
                self.assertEqual(codes(text), [code], text)
        self.assertEqual(codes("metrics 127.0.0.1:1\nmetrics 127.0.0.1:2\n:1 -> a:1"), ["repeated-directive"])
        self.assertEqual(codes(f"metrics 127.0.0.1:1\nmanhole ssh:127.0.0.1:2 {keys}\n:3 -> a:1"), [])

    def test_three(self) -> None:
        """In a knot of several, every later rule is told once."""
        text = "a: :1-9 -> unix:/x\nb: :2 -> x:1\nc: :3 -> x:1\nd: :9-10 -> unix:/x"
        error = self.assertRaises(RulesError, parse, text, "f")
        self.assertEqual([problem.location.line for problem in error.problems], [2, 3, 4])

    def test_overlap(self) -> None:
        """A wildcard that covers another listener is an error, in either order: Linux refuses the second."""
        for one, two in (
            (":1", "127.0.0.1:1"),
            (":1", "0.0.0.0:1"),
            (":1", "[::]:1"),
            ("0.0.0.0:1-9", "127.0.0.1:5"),
            ("[::]:1", "[::1]:1"),
            (":1/udp", "127.0.0.1:1/udp"),
        ):
            for text in (f"{one} -> unix:/x\n{two} -> unix:/x", f"{two} -> unix:/x\n{one} -> unix:/x"):
                error = self.assertRaises(RulesError, parse, text, "f")
                self.assertEqual(len(error.problems), 1)
                self.assertEqual(codes(text), ["listen-overlap"], text)
        for one, two in ((":1 v6only=on", "127.0.0.1:1"), ("0.0.0.0:1", "[::1]:1"), (":1", "127.0.0.1:2")):
            self.assertEqual(codes(f"{one} -> x:1\n{two} -> x:1"), [], (one, two))

    @given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=6))
    @settings(max_examples=100, deadline=None)
    def test_agrees_with_sets(self, spans: list[tuple[int, int]]) -> None:
        """A clash is found exactly when two ranges have a port in common."""
        text = "".join(
            f"r{number}: :{first}-{first + more} -> unix:/x\n" for number, (first, more) in enumerate(spans)
        )
        ports = [port for first, more in spans for port in range(first, first + more + 1)]
        self.assertEqual("listen-clash" in codes(text), len(set(ports)) < len(ports))


class RangeTests(SynchronousTestCase):
    """Ranges are as long as each other."""

    def test_length(self) -> None:
        """The n-th port goes to the n-th; what has no ports takes them all."""
        self.assertEqual(codes(':1-3 -> x:4-6, y:1-3, unix:/a, endpoint:"a"'), [])
        for text in (":1-3 -> x:1-2", ":1-3 -> x:1", ":1 -> x:1-3", "unix:/a -> x:1-3", ":1-3 -> x:65534"):
            self.assertEqual(codes(text), ["range-mismatch"], text)
        self.assertEqual(
            codes(":1 -> x:1\n  filter a\n  route * -> y:1-2\n  route * -> z\n  target z=z:1-2"),
            ["range-mismatch"] * 2,
        )


class SourceTests(SynchronousTestCase):
    """``src=`` is of the target's family."""

    def test_family(self) -> None:
        """Only literals can be known to differ."""
        self.assertEqual(codes(":1 -> 10.0.0.1:1 src=::1"), ["source-family"])
        self.assertEqual(codes(":1 -> [::2]:1 src=10.0.0.1"), ["source-family"])
        self.assertEqual(codes(":1 -> name:1, unix:/a, 10.0.0.1:1 src=10.0.0.2"), [])


class RouteTests(SynchronousTestCase):
    """Routes and the targets they name."""

    def test_names(self) -> None:
        """A name must be there and be used; it may stand for several targets, each of them once."""
        head = ":1 -> a:1\n  filter sni\n"
        self.assertEqual(codes(head + "  route * -> x"), ["unknown-target"])
        self.assertEqual(codes(head + "  target x=b:1"), ["unused-target"])
        self.assertEqual(codes(head + "  route * -> x\n  target x=b:1\n  target x=b:1"), ["duplicate-target"])
        self.assertEqual(codes(head + "  route * -> x\n  target x=b:1\n  target x=c:1"), [])
        self.assertEqual(codes(head + "  route * -> x\n  target x=b:1"), [])

    def test_filter(self) -> None:
        """Routes need a filter to choose one."""
        self.assertEqual(codes(":1 -> a:1\n  route * -> close"), ["route-without-filter"])
