"""Tests of `portfwd.rules.access`: patterns, and rinetd's four steps."""

from __future__ import annotations

import ipaddress
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.access import MAX_PATTERN, REMEMBERED, AccessList, Decision, check_pattern
from portfwd.rules.model import AclEntry


def allow(*patterns: str) -> list[AclEntry]:
    """Make ``allow`` entries."""
    return [AclEntry(allow=True, pattern=pattern) for pattern in patterns]


def deny(*patterns: str) -> list[AclEntry]:
    """Make ``deny`` entries."""
    return [AclEntry(allow=False, pattern=pattern) for pattern in patterns]


class CheckPatternTests(SynchronousTestCase):
    """What may stand behind ``allow`` and ``deny``."""

    def test_good(self) -> None:
        """Addresses, networks and globs of both families pass, with brackets around IPv6 too."""
        for pattern in (
            "192.168.1.66", "0.0.0.0", "2001:db8::1", "2001:DB8::1", "[::1]", "::ffff:10.0.0.1",
            "10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/32", "::/0", "[2001:db8::]/32",
            "*", "192.168.1.*", "192.168.1.?", "10.*.*.1", "fe80:*", "FE80::A?", "[2001:*]", "?*",
        ):  # fmt: skip
            self.assertIsNone(check_pattern(pattern), pattern)

    def test_bad(self) -> None:
        """Everything else gets a message of one line that says what is wrong."""
        for pattern, part in (
            ("", "missing"),
            ("1" * (MAX_PATTERN + 1), str(MAX_PATTERN)),
            ("example.com", "no address"),
            ("*.example.com", "only hexadecimal digits"),
            ("192.168.1", "no address"),
            ("192.168.1.256", "no address"),
            ("192.168.001.1", "no address"),
            ("1.2.3.4\n", r"'1.2.3.4\x0a'"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/", "from 0 to 32"),
            ("10.0.0.0/-1", "from 0 to 32"),
            ("10.0.0.0/²", "from 0 to 32"),
            ("10.0.0.0/00000000008", "from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "from 0 to 32"),
            ("::/129", "from 0 to 128"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.*/8", "glob"),
            ("fe80::1%eth0", "zone"),
        ):
            message = check_pattern(pattern)
            assert message is not None, pattern
            self.assertIn(part, message)
            self.assertEqual(message.splitlines(), [message])

    @given(st.text(alphabet="0123456789abcdefF.:*?/[]%x ", max_size=20))
    @settings(max_examples=200, deadline=None)
    def test_agrees_with_the_compiler(self, pattern: str) -> None:
        """What `check_pattern` lets pass compiles; what it refuses as an address or network does not."""
        if check_pattern(pattern) is None:
            AccessList(allow(pattern)).decide("10.0.0.1")
        elif "*" not in pattern and "?" not in pattern and "%" not in pattern:
            self.assertRaises(ValueError, AccessList, allow(pattern))


class DecideTests(SynchronousTestCase):
    """rinetd's order, step by step."""

    def test_empty(self) -> None:
        """Without entries everybody is allowed, and the list says that it need not be asked."""
        nothing = AccessList()
        self.assertTrue(nothing.empty)
        self.assertEqual(nothing.decide("10.0.0.1"), Decision(allowed=True))
        self.assertFalse(AccessList(allow("*")).empty)
        self.assertFalse(AccessList((), deny("1.2.3.4")).empty)

    def test_step_1(self) -> None:
        """With a global allow, who matches none is refused, and no single entry is to blame."""
        access = AccessList(allow("10.0.0.0/8", "192.168.1.*"))
        self.assertEqual(access.decide("11.0.0.1"), Decision(allowed=False, step=1))
        self.assertEqual(access.decide("10.9.9.9"), Decision(allowed=True, entry=allow("10.0.0.0/8")[0]))
        self.assertEqual(access.decide("192.168.1.5"), Decision(allowed=True, entry=allow("192.168.1.*")[0]))

    def test_step_2(self) -> None:
        """A global deny beats a global allow, in whatever order they stand."""
        entries = allow("10.0.0.0/8") + deny("10.0.0.66")
        for ordered in (entries, entries[::-1]):
            self.assertEqual(
                AccessList(ordered).decide("10.0.0.66"),
                Decision(allowed=False, step=2, entry=deny("10.0.0.66")[0]),
            )

    def test_step_3(self) -> None:
        """A rule's own allow narrows the global one and cannot widen it."""
        access = AccessList(allow("10.0.0.0/8"), allow("10.1.0.0/16", "192.168.1.1"))
        self.assertEqual(access.decide("10.2.0.1"), Decision(allowed=False, step=3))
        self.assertEqual(access.decide("192.168.1.1"), Decision(allowed=False, step=1))
        self.assertEqual(access.decide("10.1.0.1"), Decision(allowed=True, entry=allow("10.1.0.0/16")[0]))

    def test_step_4(self) -> None:
        """A rule's own deny comes last, and beats its allow."""
        access = AccessList((), allow("192.168.1.*") + deny("192.168.1.66"))
        self.assertEqual(
            access.decide("192.168.1.66"), Decision(allowed=False, step=4, entry=deny("192.168.1.66")[0])
        )

    def test_mapped(self) -> None:
        """An IPv4-mapped client is the IPv4 client it is, in whatever way the pattern is written."""
        for pattern in (
            "10.0.0.1",
            "10.0.0.0/8",
            "10.0.*",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.0/104",
            "::FFFF:10.*",
        ):
            access = AccessList(deny(pattern))
            for host in ("10.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1"):
                self.assertFalse(access.decide(host).allowed, (pattern, host))
            self.assertTrue(access.decide("::a00:1").allowed, pattern)
        for pattern in ("::/0", "::ffff:*:*"):
            self.assertTrue(AccessList(deny(pattern)).decide("::ffff:10.0.0.1").allowed, pattern)

    def test_zones_and_case(self) -> None:
        """Zone ids and the case of hexadecimal digits do not matter."""
        for pattern in ("fe80::a1", "FE80::A1", "fe80:0::00a1", "fe80::/10", "FE80::A?", "*a1"):
            self.assertFalse(AccessList(deny(pattern)).decide("fe80::A1%eth0").allowed, pattern)

    def test_glob_is_text(self) -> None:
        """A glob is compared with the whole of the compressed text, where '?' is exactly one character."""
        access = AccessList(deny("192.168.1.?", "2001:db8:*"))
        self.assertFalse(access.decide("192.168.1.6").allowed)
        self.assertTrue(access.decide("192.168.1.66").allowed)
        self.assertTrue(access.decide("2.192.168.1.6").allowed)
        self.assertFalse(access.decide("2001:0db8:0:0::1").allowed)
        self.assertTrue(access.decide("12001:db8::1").allowed)
        self.assertFalse(AccessList(deny("::1.2.*")).decide("::102:304").allowed)

    def test_many_stars(self) -> None:
        """A glob made of stars costs no exponential time."""
        access = AccessList(deny("*1" * 30 + "*2"))
        self.assertTrue(access.decide("1111:1111:1111:1111:1111:1111:1111:1111").allowed)

    def test_no_address(self) -> None:
        """Text that is no address can match a glob only."""
        access = AccessList(allow("10.0.0.0/8"), deny("*"))
        self.assertEqual(access.decide("?"), Decision(allowed=False, step=1))
        self.assertEqual(AccessList(deny("*")).decide("?").step, 2)

    def test_unix(self) -> None:
        """Only a level that names ``unix`` judges a client of a unix socket, by that word and ``*``."""
        for everywhere, own, step in (
            ((), (), 0),
            (allow("10.0.0.0/8"), deny("*"), 0),
            (deny("unix"), (), 2),
            (allow("unix"), (), 0),
            (allow("unix", "10.0.0.0/8"), allow("10.0.0.1"), 0),
            (allow("10.0.0.0/8"), deny("unix"), 4),
            ((), [*allow("10.0.0.0/8"), *deny("unix")], 3),
            ((), [*allow("*"), *deny("unix")], 4),
            ((), [*allow("unix"), *deny("*")], 4),
            (deny("unix"), allow("unix"), 2),
        ):
            access = AccessList(everywhere, own)
            decision = access.decide_unix()
            self.assertEqual((decision.allowed, decision.step), (not step, step), (everywhere, own))
        decision = AccessList(allow("*", "unix")).decide_unix()
        assert decision.entry is not None
        self.assertEqual(decision.entry.pattern, "unix")

    def test_unix_addresses(self) -> None:
        """``unix`` holds no address; where it alone is allowed clients with an address are refused."""
        self.assertEqual(AccessList(allow("unix")).decide("10.0.0.1"), Decision(allowed=False, step=1))
        self.assertTrue(AccessList(deny("unix")).decide("10.0.0.1").allowed)
        self.assertTrue(AccessList(allow("unix", "10.*")).decide("10.0.0.1").allowed)
        self.assertIs(check_pattern("unix"), None)
        for text in ("Unix", "unix:/run/x", "@name"):
            self.assertIn("write unix", check_pattern(text) or "", text)

    def test_announced_unix(self) -> None:
        """A client of a unix socket that a header announces is judged by every level."""
        for everywhere, own, step in (
            ((), (), 0),
            (allow("10.0.0.0/8"), (), 1),
            (allow("*"), (), 0),
            (allow("unix"), (), 0),
            (allow("10.*", "????"), (), 1),
            (deny("*"), (), 2),
            (deny("unix"), (), 2),
            (deny("10.0.0.0/8"), (), 0),
            (allow("*"), allow("10.0.0.1"), 3),
        ):
            decision = AccessList(everywhere, own).decide_unix(announced=True)
            self.assertEqual((decision.allowed, decision.step), (not step, step), (everywhere, own))

    def test_longest_network(self) -> None:
        """Of several networks the longest is named as the one that decides."""
        access = AccessList(deny("10.0.0.0/8", "10.0.0.1", "10.0.0.0/24", "*"))
        entry = access.decide("10.0.0.1").entry
        assert entry is not None
        self.assertEqual(entry.pattern, "10.0.0.1")

    def test_with_own(self) -> None:
        """Another rule's list shares the global level and has its own entries only."""
        first = AccessList(allow("10.0.0.0/8"), deny("10.0.0.1"))
        second = first.with_own(deny("10.0.0.2"))
        self.assertEqual([second.decide(f"10.0.0.{last}").step for last in (1, 2)], [0, 4])
        self.assertEqual([first.decide(f"10.0.0.{last}").step for last in (1, 2)], [4, 0])
        self.assertEqual(second.decide("11.0.0.1").step, 1)
        self.assertTrue(AccessList((), deny("*")).with_own(()).empty)
        self.assertEqual(repr(second), "<AccessList: 1 global, 1 own>")

    def test_remembers_boundedly(self) -> None:
        """The same client gets the very same decision again, and memory stays bounded."""
        access = AccessList(deny("10.0.0.1"))
        self.assertIs(access.decide("10.0.0.1"), access.decide("10.0.0.1"))
        for number in range(REMEMBERED * 2 + 10):
            access.decide(str(ipaddress.IPv4Address(number)))
        self.assertLessEqual(len(access.remembered), REMEMBERED)
        self.assertEqual(access.decide("10.0.0.1").step, 2)


def naive_match(pattern: str, host: str) -> bool:
    """Say whether `pattern` holds `host`, as slowly and plainly as can be; both are IPv4 or plain IPv6."""
    if "*" in pattern or "?" in pattern:
        return naive_glob(pattern.lower(), host.lower())
    return ipaddress.ip_address(host) in ipaddress.ip_network(pattern)


def naive_glob(pattern: str, text: str) -> bool:
    """Match by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive_glob(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive_glob(pattern[1:], text[1:])


def naive_step(everywhere: list[AclEntry], own: list[AclEntry], host: str) -> int:
    """Take the four steps as `rules.md` and rinetd's source have them."""
    for first_step, entries in ((1, everywhere), (3, own)):
        allows = [entry for entry in entries if entry.allow]
        if allows and not any(naive_match(entry.pattern, host) for entry in allows):
            return first_step
        if any(naive_match(entry.pattern, host) for entry in entries if not entry.allow):
            return first_step + 1
    return 0


# Few distinct numbers, so that patterns and hosts meet often.
octets = st.sampled_from(["0", "1", "10", "255"])
ipv4 = st.builds(lambda *parts: ".".join(parts), octets, octets, octets, octets)
ipv6 = st.builds(
    lambda *words: str(ipaddress.IPv6Address(":".join(words))),
    st.just("2001"), *[st.sampled_from(["0", "a", "db8"])] * 7,
)  # fmt: skip
hosts = st.one_of(ipv4, ipv6)
networks = st.builds(
    lambda host, less: str(
        ipaddress.ip_network((host, max(0, (128 if ":" in host else 32) - less)), strict=False)
    ),
    hosts,
    st.sampled_from([0, 1, 4, 8, 16, 24, 31, 32, 64, 100, 128]),
)
globs = st.builds(
    lambda host, start, stop, what: host[:start] + what + host[max(start, stop) :],
    hosts, st.integers(0, 12), st.integers(0, 20), st.sampled_from(["*", "?", "*.*", "?*", "**"]),
)  # fmt: skip
entries = st.lists(st.builds(AclEntry, st.booleans(), st.one_of(hosts, networks, globs)), max_size=5)


class ReferenceTests(SynchronousTestCase):
    """The compiled list against the plain one."""

    @given(entries, entries, hosts)
    @settings(max_examples=250, deadline=None)
    def test_same_decision(self, everywhere: list[AclEntry], own: list[AclEntry], host: str) -> None:
        """Step, verdict and the named entry are those of the four steps, for the mapped form too."""
        access = AccessList(everywhere, own)
        decision = access.decide(host)
        step = naive_step(everywhere, own, host)
        self.assertEqual((decision.step, decision.allowed), (step, step == 0))
        self.assertEqual(AccessList(everywhere).with_own(own).decide(host), decision)
        if ":" not in host:
            self.assertEqual(access.decide("::ffff:" + host), decision)
        if decision.entry is not None:
            self.assertTrue(naive_match(decision.entry.pattern, host))
            self.assertEqual(decision.entry.allow, decision.allowed)
            if step:
                self.assertIn(decision.entry, everywhere if step == 2 else own)
        else:
            allows = [entry for entry in everywhere + own if entry.allow]
            self.assertTrue(step in (1, 3) or not allows)

    @given(entries, entries, hosts, st.randoms(use_true_random=False))
    @settings(max_examples=100, deadline=None)
    def test_order_does_not_matter(
        self, everywhere: list[AclEntry], own: list[AclEntry], host: str, random: Random
    ) -> None:
        """Shuffling the entries of a level changes neither verdict nor step."""
        before = AccessList(everywhere, own).decide(host)
        random.shuffle(everywhere)
        random.shuffle(own)
        after = AccessList(everywhere, own).decide(host)
        self.assertEqual((before.allowed, before.step), (after.allowed, after.step))
