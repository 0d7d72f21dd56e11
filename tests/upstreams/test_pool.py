"""Tests of `portfwd.upstreams.pool`: the targets of a session, in order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.occupancy import TargetOccupancy
from portfwd.rules.model import AllDown, Balance
from portfwd.upstreams.health import Ejection, TargetState, Verdict
from portfwd.upstreams.pool import MOST_STICKY, Member, Order, Pool
from tests.upstreams.targets import every, member, pool, session

EJECTION = Ejection(1, 10.0)
ROUND = Balance.ROUNDROBIN


def eject(one: Member, among: Pool, now: float = 0.0) -> None:
    """A dial of `one` fails, and ejects it."""
    one.health.dial_failed(now, "refused", EJECTION)
    among.refresh(now)


def check(one: Member, among: Pool, passed: bool, now: float = 0.0) -> None:
    """As many verdicts as it takes."""
    for _ in range(3):
        one.health.checked("tcp", Verdict(passed, "said so"), now, 0.001)
    among.refresh(now)


class ChoiceTests(SynchronousTestCase):
    """Which targets a session tries."""

    @given(
        st.sampled_from(Balance),
        st.lists(
            st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from("ued-")), min_size=1, max_size=7
        ),
        st.sampled_from(AllDown),
    )
    def test_no_target_twice(
        self, balance: Balance, kinds: list[tuple[int, bool, str]], all_down: AllDown
    ) -> None:
        """A dial tries no target twice, one that is ordered down never, and none of weight 0."""
        members = [member(str(number), weight=w, backup=b) for number, (w, b, _) in enumerate(kinds)]
        among = pool(members, balance=balance, all_down=all_down)
        for one, (_, _, kind) in zip(members, kinds, strict=True):
            if kind == "e":
                eject(one, among)
            elif kind == "d":
                among.order(one.label, TargetState.DOWN, 0)
        tried = every(among, "192.0.2.1", 1.0)
        self.assertEqual(len(tried), len(set(tried)))
        for one in members:
            if not one.options.weight or one.ordered is not None:
                self.assertNotIn(one.label, tried)

    def test_first(self) -> None:
        """``first`` is the order of the file, backups last."""
        among = pool([member("a", backup=True), member("b"), member("c")])
        self.assertEqual(every(among), ["b", "c", "a"])
        self.assertEqual(repr(among), "<Pool first, 3 of 3 fit>")

    def test_fit_only(self) -> None:
        """What is ejected, down, draining or without weight is passed over."""
        members = [
            member("a"),
            member("b", ["tcp"]),
            member("c", ["tcp"]),
            member("d", weight=0),
            member("e"),
        ]
        among = pool(members)
        eject(members[0], among)
        check(members[1], among, False)
        members[2].health.checked("tcp", Verdict(True, "drain", drain=True), 0, 0)
        among.refresh(0)
        self.assertEqual(session(among), "e")

    def test_last_resort(self) -> None:
        """Where the others fail an ejected target is tried, but none that a check keeps away."""
        members = [member("a"), member("b", ["tcp"]), member("c")]
        among = pool(members)
        eject(members[0], among)
        check(members[1], among, False)
        self.assertEqual(every(among), ["c", "a"])

    def test_all_down(self) -> None:
        """With all down, ``try`` tries them as if they were up, and ``close`` none."""
        for balance in Balance:
            members = [member("a", ["tcp"]), member("b", ["tcp"]), member("c")]
            among = pool(members, balance=balance)
            for one in members[:2]:
                check(one, among, False)
            eject(members[2], among)
            self.assertTrue(among.all_down)
            self.assertEqual(sorted(every(among)), ["a", "b", "c"])
            closing = pool(members, balance=balance, all_down=AllDown.CLOSE)
            self.assertEqual(every(closing), [])

    def test_all_down_share(self) -> None:
        """With all down, ``try`` spreads sessions as if the targets were up, and tries backups last."""
        for balance in (ROUND, Balance.LEASTCONN):
            members = [member(name, ["tcp"], backup=name == "c") for name in "cab"]
            among = pool(members, balance=balance)
            for one in members:
                check(one, among, False)
            self.assertEqual(Counter(session(among) for _ in range(6)), {"a": 3, "b": 3})
            self.assertEqual(every(among)[-1], "c")

    def test_single(self) -> None:
        """A single target is never ejected, but a check can take it down."""
        only = member("a", ["tcp"])
        among = pool([only], all_down=AllDown.CLOSE)
        eject(only, among)
        self.assertEqual(every(among), ["a"])
        check(only, among, False)
        self.assertEqual(every(among), [])

    def test_backups(self) -> None:
        """Backups serve when no other target is fit, and no longer."""
        main, spare = member("a"), member("b", backup=True)
        among = pool([main, spare], balance=ROUND)
        self.assertEqual({session(among) for _ in range(4)}, {"a"})
        eject(main, among, 5)
        self.assertEqual({session(among, now=6) for _ in range(4)}, {"b"})
        main.health.dial_succeeded(7)
        among.refresh(7)
        self.assertEqual({session(among, now=8) for _ in range(4)}, {"a"})

    def test_trial(self) -> None:
        """After ``fail-timeout`` one session tries an ejected target first; the others go elsewhere."""
        members = [member("a"), member("b")]
        among = pool(members, balance=ROUND)
        eject(members[0], among)
        self.assertEqual({session(among, now=9.9) for _ in range(3)}, {"b"})
        self.assertEqual([session(among, now=10.1) for _ in range(4)], ["a", "b", "b", "b"])
        self.assertEqual([session(among, now=15.2) for _ in range(2)], ["a", "b"])
        members[0].health.dial_succeeded(16)
        among.refresh(16)
        self.assertEqual(Counter(session(among, now=16) for _ in range(4)), {"a": 2, "b": 2})

    def test_loads(self) -> None:
        """Sessions that begin and end are seen at once, by whichever pool has the target now."""
        members = [member("a"), member("b")]
        old = pool(members, balance=Balance.LEASTCONN)
        self.assertEqual([session(old) for _ in range(4)], ["a", "b", "a", "b"])
        new = pool(members, balance=Balance.LEASTCONN)
        new.inherit(old)
        members[1].load.give_back()  # type: ignore[attr-defined]
        self.assertEqual(session(new), "b")
        self.assertEqual([len(one.load.watchers) for one in members], [1, 1])

    def test_source(self) -> None:
        """A client keeps its target while that is fit, and gets it back."""
        members = [member(f"10.0.0.{number}:80") for number in range(5)]
        among = pool(members, balance=Balance.SOURCE)
        first = session(among, "192.0.2.7")
        self.assertEqual({session(among, "192.0.2.7") for _ in range(3)}, {first})
        one = next(one for one in members if one.label == first)
        eject(one, among)
        self.assertNotEqual(session(among, "192.0.2.7"), first)
        one.health.dial_succeeded(3)
        among.refresh(3)
        self.assertEqual(session(among, "192.0.2.7"), first)


class StickTests(SynchronousTestCase):
    """``stick=``."""

    def setUp(self) -> None:
        self.members = [member("a"), member("b"), member("c")]
        self.pool = pool(self.members, balance=ROUND, stick=60.0)

    def reach(self, client: str, now: float = 0.0) -> str:
        """A session of `client` that reaches its target."""
        order = Order(self.pool, client)
        chosen = order.next(now)
        assert chosen is not None
        order.reached(chosen, now)
        return chosen.label

    def test_kept(self) -> None:
        """A client keeps its target for that long after its last session."""
        self.assertEqual([self.reach("x", now) for now in (0, 50, 100)], ["a", "a", "a"])
        self.assertEqual(self.reach("y", 100), "b")
        self.assertEqual(self.reach("x", 161), "c")

    def test_drain(self) -> None:
        """A target that drains keeps the clients that it knows; one that is down does not."""
        self.reach("x")
        self.pool.order("a", TargetState.DRAIN, 1)
        self.assertEqual([self.reach("x", 1), self.reach("y", 1), self.reach("z", 1)], ["a", "b", "c"])
        self.pool.order("a", TargetState.DOWN, 2)
        self.assertNotEqual(self.reach("x", 2), "a")

    def test_over_reloads(self) -> None:
        """A reload forgets no client."""
        self.reach("x")
        new = pool(self.members, balance=ROUND, stick=60.0)
        new.inherit(self.pool)
        self.pool = new
        self.assertEqual([self.reach("x", 5), self.reach("x", 6)], ["a", "a"])

    def test_bounded(self) -> None:
        """The clients that are remembered are bounded, and those whose time is over are forgotten."""
        one = self.members[0]
        for number in range(MOST_STICKY + 10):
            self.pool.reached(str(number), one, 0)
        self.assertEqual(len(self.pool.sticky), MOST_STICKY)
        self.pool.reached("late", one, 100)
        self.assertEqual(list(self.pool.sticky), ["late"])


class SetTests(SynchronousTestCase):
    """Other targets, other shares."""

    def test_replace(self) -> None:
        """A new set is one change: what is equal keeps its state, its order and its sessions."""
        members = [member("a"), member("b")]
        among = pool(members, balance=Balance.LEASTCONN)
        for _ in range(4):
            session(among)
        among.order("a", TargetState.DRAIN, 0)
        kept = Member("a", "a", "a", members[0].options, members[0].health, members[0].load)
        among.replace([kept, member("c")], 1)
        self.assertIs(kept.ordered, TargetState.DRAIN)
        self.assertEqual(members[1].load.watchers, [])
        self.assertEqual([one.label for one in among.members], ["a", "c"])
        self.assertEqual(session(among), "c")

    def test_slow_start(self) -> None:
        """After a recovery the share grows step by step."""
        slow = member("a", ["tcp"], slowstart=100.0)
        among = pool([slow, member("b")], balance=ROUND)
        self.assertEqual(Counter(session(among) for _ in range(10)), {"a": 5, "b": 5})
        check(slow, among, False)
        check(slow, among, True, 1000.0)
        self.assertIs(among.state_of(slow, 1001.0), TargetState.STARTING)
        early = Counter(session(among, now=1001.0) for _ in range(22))
        self.assertLessEqual(early["a"], 4)
        late = Counter(session(among, now=1100.1) for _ in range(20))
        self.assertIn(late["a"], (9, 10))
        self.assertIs(among.state_of(slow, 1100.1), TargetState.UP)

    @given(st.sampled_from(Balance), st.lists(st.integers(0, 3), min_size=1, max_size=5), st.data())
    def test_parts(self, balance: Balance, shares: list[int], data: st.DataObject) -> None:
        """The parts of new sessions that are shown are those that targets get."""
        kinds = [data.draw(st.sampled_from(["up", "down", "drain", "backup"])) for _ in shares]
        members = [
            member(str(number), weight=share, backup=kind == "backup")
            for number, (share, kind) in enumerate(zip(shares, kinds, strict=True))
        ]
        among = pool(members, balance=balance)
        for one, kind in zip(members, kinds, strict=True):
            if kind in ("down", "drain"):
                among.order(one.label, TargetState(kind), 0)
        parts = {one.member.label: one.part for one in among.views(0)}
        if balance in (Balance.RANDOM, Balance.SOURCE):
            got = {session(among, f"192.0.2.{client}") for client in range(8)}
            self.assertLessEqual(got - {""}, {label for label, part in parts.items() if part})
            return
        count = sum(shares) or 1
        found = Counter(session(among) for _ in range(count * 10))
        for label, part in parts.items():
            self.assertLessEqual(abs(found[label] / (count * 10) - part), 0.4, (found, parts))
            self.assertEqual(bool(found[label]), bool(part))

    def test_views(self) -> None:
        """For people: state, cause, and the part of new sessions."""
        members = [member("a", weight=3), member("b"), member("c", backup=True)]
        among = pool(members, balance=ROUND)
        self.assertEqual([one.part for one in among.views(0)], [0.75, 0.25, 0])
        eject(members[0], among, 5)
        among.order("b", TargetState.UP, 6)
        views = list(among.views(7))
        self.assertEqual([one.state for one in views], [TargetState.DOWN, TargetState.UP, TargetState.UP])
        self.assertEqual(
            [one.cause for one in views], ["a dial failed: refused", "ordered by an operator", ""]
        )
        self.assertEqual(views[0].since, 5)
        self.assertFalse(among.order("x", TargetState.UP, 8))

    def test_occupancy(self) -> None:
        """Each slot that is taken or given back is told to all watchers."""
        seen: list[int] = []
        load = TargetOccupancy()
        load.watchers.append(seen.append)
        load.take()
        load.give_back()
        self.assertEqual((seen, load.taken), ([1, -1], 0))
