"""Which listener serves which port of other rules."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.steps import finish
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import at_port, count_ports
from portfwd.service.run.matching import ListenerRenewal, match, renewal
from portfwd.values import InetAddress
from tests.service.contexts import rules

TARGET = "-> 192.0.2.1:1\n"


def bounds(text: str, **states: str) -> list[Bound]:
    """What listens for the rules of `text`; by name what an operator said."""
    made = []
    for rule in rules(text).rules:
        for offset in range(count_ports(rule)):
            name, _ = at_port(rule, offset)
            live = cast(Any, mock.Mock(rule=rule))
            live.name = name
            state = states.get(rule.name, "")
            made.append(Bound(live, offset, closed=state == "drained", paused=state == "paused"))
    return made


def listener(host: str = "127.0.0.1", state: str = "accepting", *, gone: bool | None = None) -> Any:
    """One that is bound there; `gone`: whether its file is, if it has one."""
    file = None if gone is None else mock.Mock(is_gone=gone)
    return mock.Mock(address=InetAddress(host, 80), state=state, file=file)


class MatchTests(SynchronousTestCase):
    """`match`."""

    def matched(self, current: list[Bound], text: str) -> list[tuple[str, str, str]]:
        """Each new port with the name of what listens there, and what an operator said of it."""
        found = finish(match(current, rules(text)))
        self.gone = [one.live.name for one in found.gone]
        return [(one.name, one.bound.live.name if one.bound else "", one.steered) for one in found.ports]

    def test_by_address(self) -> None:
        """A listener is kept where the address is the same, under whatever name."""
        current = bounds(f"a: :1 {TARGET}b: :2 {TARGET}c: :3 {TARGET}")
        found = self.matched(current, f"x: :1 {TARGET}b: :2 {TARGET}c: :4 {TARGET}")
        self.assertEqual(found, [("x", "a", ""), ("b", "b", ""), ("c", "", "")])
        self.assertEqual(self.gone, ["c"])

    def test_pause_stays_with_the_name(self) -> None:
        """A rule that moves is paused or drained where it goes; whoever gets its address is not."""
        for state in ("paused", "drained"):
            current = bounds(f"a: :1 {TARGET}", a=state)
            found = self.matched(current, f"a: :2 {TARGET}b: :1 {TARGET}")
            self.assertEqual(found, [("a", "", state), ("b", "a", "")])

    def test_drained_takes_no_listener(self) -> None:
        """A drained rule takes nobody's listener over."""
        current = bounds(f"a: :1 {TARGET}b: :2 {TARGET}", a="drained")
        found = self.matched(current, f"a: :2 {TARGET}")
        self.assertEqual((found, self.gone), ([("a", "", "drained")], ["a", "b"]))

    def test_range(self) -> None:
        """What holds for all ports of a range holds for those that come."""
        current = bounds("lab: :1-2 -> 192.0.2.1:1-2\n", lab="paused")
        found = self.matched(current, "lab: :2-3 -> 192.0.2.1:1-2\n")
        self.assertEqual(found, [("lab:2", "lab:2", "paused"), ("lab:3", "", "paused")])


class RenewalTests(SynchronousTestCase):
    """`renewal`."""

    def renewed(
        self, listeners: list[Any], text: str = ":1", addresses: tuple[str, ...] = ()
    ) -> ListenerRenewal | None:
        """What the listeners of a rule need."""
        (bound,) = bounds(f"a: {text} {TARGET}")
        bound.listeners = listeners
        return renewal(bound, bound.live.rule, addresses)

    def test_nothing(self) -> None:
        """What listens, with its file if it has one, stays; so do ports of Twisted's."""
        self.assertIsNone(self.renewed([listener()]))
        self.assertIsNone(self.renewed([listener(gone=False)]))
        self.assertIsNone(self.renewed([]))

    def test_broken(self) -> None:
        """What lost its file, what the kernel gave up, and what never began is bound anew."""
        for broken in (listener(gone=True), listener(state="stopped"), listener(state="open")):
            found = self.renewed([broken])
            assert found is not None
            self.assertEqual((found.kept, found.hosts), ([], None))

    def test_drained(self) -> None:
        """What is closed is bound if that is asked for."""
        (bound,) = bounds(f"a: :1 {TARGET}", a="drained")
        found = renewal(bound, bound.live.rule, ())
        assert found is not None
        self.assertEqual((found.kept, found.hosts), ([], None))

    def test_name(self) -> None:
        """A name that has other addresses is listened on there; sockets of those that it still has stay."""
        one, two = listener("127.0.0.1"), listener("127.0.0.2")
        self.assertIsNone(self.renewed([one, two], "n.example:1", ("127.0.0.2", "127.0.0.1")))
        found = self.renewed([one, two], "n.example:1", ("127.0.0.2", "127.0.0.3"))
        assert found is not None
        self.assertEqual((found.kept, found.hosts), ([two], ["127.0.0.3"]))
        found = self.renewed([one, two], "n.example:1", ("127.0.0.1",))
        assert found is not None
        self.assertEqual((found.kept, found.hosts), ([one], []))

    def test_name_without_answer(self) -> None:
        """A name that nobody knows now keeps what listens; an IPv6 address of other machines is left out."""
        self.assertIsNone(self.renewed([listener()], "n.example:1"))
        self.assertIsNone(self.renewed([listener()], "n.example:1", ("127.0.0.1", "2001:db8::1")))
