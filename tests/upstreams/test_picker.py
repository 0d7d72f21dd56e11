"""Tests of `portfwd.upstreams.picker`: which target a new session gets."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.model import Balance
from portfwd.upstreams.picker import BOUND, FEW_SESSIONS, BySource, LeastConn, Picker, RoundRobin, make_picker


class Target:
    """A candidate."""

    def __init__(self, key: str, share: float = 1, taken: int = 0) -> None:
        self.key = key
        self.share = share
        self.taken = taken

    def __repr__(self) -> str:
        return self.key


def targets(*shares: float) -> list[Target]:
    """One for each of `shares`: a, b and so on."""
    return [Target(f"10.0.0.{number}:80", share) for number, share in enumerate(shares, 1)]


def made(balance: Balance, among: list[Target], seed: int = 0) -> Picker:
    """A picker."""
    picker = make_picker(balance, random.Random(seed).random, lambda: sum(one.taken for one in among))
    picker.update(among)
    return picker


weights = st.lists(st.integers(1, 20), min_size=1, max_size=8)
balances = st.sampled_from(Balance)


class EveryPickerTests(SynchronousTestCase):
    """What all pickers have in common."""

    @given(balances, weights, st.integers(0, 1000))
    def test_each_once(self, balance: Balance, shares: list[int], seed: int) -> None:
        """With those skipped that were picked, each candidate is picked once, then none."""
        among = targets(*shares)
        picker = made(balance, among, seed)
        for _ in range(2):
            skip: dict[Target, None] = {}
            for _ in among:
                chosen = picker.pick("192.0.2.1", skip)
                self.assertIsInstance(chosen, Target)
                self.assertNotIn(chosen, skip)
                skip[chosen] = None  # type: ignore[index]
            self.assertIsNone(picker.pick("192.0.2.1", skip))

    @given(balances, weights)
    def test_empty(self, balance: Balance, shares: list[int]) -> None:
        """Without candidates there is none, also when there were some."""
        picker = made(balance, targets(*shares))
        picker.update([])
        self.assertIsNone(picker.pick("192.0.2.1", ()))
        self.assertIn("of 0", repr(picker))

    @given(st.sampled_from([Balance.ROUNDROBIN, Balance.LEASTCONN]), weights, st.integers(1, 200))
    def test_share_while_idle(self, balance: Balance, shares: list[int], count: int) -> None:
        """Sessions that end before the next one begins are spread by weight too; no target starves."""
        among = targets(*shares)
        picker = made(balance, among)
        got: Counter[object] = Counter()
        for _ in range(count):
            chosen = picker.pick("", ())
            assert isinstance(chosen, Target)
            got[chosen] += 1
            chosen.taken += 1
            chosen.taken -= 1
            picker.freed(chosen)
        for one in among:
            self.assertLessEqual(abs(got[one] - count * one.share / sum(shares)), 2 + len(among) / 4)

    @given(weights, st.integers(1, 200))
    def test_share_of_leastconn(self, shares: list[int], count: int) -> None:
        """Sessions that stay: no target is more than one ahead of its share."""
        among = targets(*shares)
        picker = made(Balance.LEASTCONN, among)
        for _ in range(count):
            chosen = picker.pick("", ())
            assert isinstance(chosen, Target)
            chosen.taken += 1
        for one in among:
            ahead = one.taken - count * one.share / sum(shares)
            self.assertLess(ahead, 1 + 1e-9)
            self.assertLess(-ahead, len(among) - 1 + 1e-9)

    @given(weights, st.integers(1, 200))
    def test_share_of_roundrobin(self, shares: list[int], count: int) -> None:
        """Sessions that stay are spread by weight: no target is further than two sessions from its share."""
        among = targets(*shares)
        picker = made(Balance.ROUNDROBIN, among)
        for _ in range(count):
            chosen = picker.pick("", ())
            assert isinstance(chosen, Target)
            chosen.taken += 1
        for one in among:
            # A target that is far behind its share would be seen as clearly as one that is far ahead.
            self.assertLessEqual(abs(one.taken - count * one.share / sum(shares)), 2 + len(among) / 4)

    def test_share_of_random(self) -> None:
        """Draws follow the weights as well, within what chance allows, with and without open sessions."""
        idle = targets(1, 2, 5)
        picker = made(Balance.RANDOM, idle)
        got = Counter(picker.pick("", ()) for _ in range(4000))
        for one in idle:
            self.assertLess(abs(got[one] / 4000 - one.share / 8), 0.03)
        among = targets(1, 2, 5)
        picker = made(Balance.RANDOM, among)
        for _ in range(4000):
            chosen = picker.pick("", ())
            assert isinstance(chosen, Target)
            chosen.taken += 1
        for one in among:
            self.assertLess(abs(one.taken / 4000 - one.share / 8), 0.02)


class RoundRobinTests(SynchronousTestCase):
    """``balance=roundrobin``."""

    def test_smooth(self) -> None:
        """A heavy target is not picked in one burst."""
        among = targets(4, 1, 1)
        picker = made(Balance.ROUNDROBIN, among)
        order = [among.index(picker.pick("", ())) for _ in range(6)]  # type: ignore[arg-type]
        self.assertEqual(order, [0, 0, 1, 2, 0, 0])

    def test_joining(self) -> None:
        """A target that joins gets its turn, and does not catch up; the others keep theirs."""
        among = targets(1, 1, 1)
        picker = RoundRobin()
        picker.update(among[:2])
        for _ in range(11):
            picker.pick("", ())
        picker.update(among)
        counts = Counter(picker.pick("", ()) for _ in range(9))
        self.assertEqual(sorted(counts.values()), [3, 3, 3])

    def test_skipped(self) -> None:
        """A target that a session does not want keeps its turn."""
        among = targets(1, 1)
        picker = made(Balance.ROUNDROBIN, among)
        self.assertIs(picker.pick("", {among[0]: None}), among[1])
        self.assertIs(picker.pick("", ()), among[0])


class LeastConnTests(SynchronousTestCase):
    """``balance=leastconn``."""

    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), min_size=1, max_size=8), st.data())
    def test_fewest(self, loads: list[tuple[int, int]], data: st.DataObject) -> None:
        """The target with the fewest sessions by weight is picked, however sessions begin and end."""
        among = [Target(str(number), share, taken) for number, (share, taken) in enumerate(loads)]
        picker = made(Balance.LEASTCONN, among)
        for _ in range(20):
            chosen = picker.pick("", ())
            assert isinstance(chosen, Target)
            least = min(one.taken / one.share for one in among)
            self.assertEqual(chosen.taken / chosen.share, least)
            chosen.taken += 1
            gone = data.draw(st.sampled_from(among))
            if gone.taken:
                gone.taken -= 1
                picker.freed(gone)

    def test_ties(self) -> None:
        """Equal loads are picked in turn."""
        among = targets(1, 1, 1)
        picker = made(Balance.LEASTCONN, among)
        self.assertEqual([picker.pick("", ()) for _ in range(6)], among * 2)

    def test_no_flood(self) -> None:
        """A target that joins loaded ones gets at most three of four sessions while it catches up."""
        among = targets(1, 1)
        picker = LeastConn()
        among[0].taken = 50
        picker.update(among[:1])
        picker.update(among)
        order = []
        for _ in range(120):
            chosen = picker.pick("", ())
            assert isinstance(chosen, Target)
            chosen.taken += 1
            order.append(chosen)
        for start in range(100):
            self.assertLessEqual(order[start : start + 4].count(among[1]), 3 + (start % 4 != 0))
        self.assertLessEqual(abs(among[0].taken - among[1].taken), 1)
        self.assertIn("0 catching up", repr(picker))

    def test_no_flood_of_many(self) -> None:
        """Several that join are held back alike, and serve where nothing else is left."""
        among = targets(1, 1, 1, 1)
        among[0].taken = among[1].taken = 20
        picker = LeastConn()
        picker.update(among[:2])
        picker.update(among)
        chosen = [picker.pick("", ()) for _ in range(16)]
        for one in among[2:]:
            self.assertLessEqual(chosen.count(one), 7)
        self.assertIs(picker.pick("", dict.fromkeys(among[:3])), among[3])

    def test_bounded(self) -> None:
        """The heap does not grow with the number of sessions."""
        among = targets(1, 1)
        picker = LeastConn()
        picker.update(among)
        for _ in range(1000):
            among[0].taken = 3
            picker.freed(among[0])
        self.assertLessEqual(len(picker.heap), 4 * 2 + 65)


class SourceTests(SynchronousTestCase):
    """``balance=source``."""

    def clients(self, picker: Picker, count: int = 3000) -> dict[str, Target]:
        """The target of each client, while no target has sessions."""
        found = {}
        for number in range(count):
            chosen = picker.pick(f"192.0.{number // 256}.{number % 256}", ())
            assert isinstance(chosen, Target)
            found[f"192.0.{number // 256}.{number % 256}"] = chosen
        return found

    @settings(max_examples=20)
    @given(st.integers(2, 12), st.data())
    def test_one_leaves(self, count: int, data: st.DataObject) -> None:
        """When one of n targets leaves, at most 1.5/n of the clients get another: those that it had."""
        among = targets(*[1] * count)
        before = self.clients(made(Balance.SOURCE, among))
        gone = data.draw(st.sampled_from(among))
        after = self.clients(made(Balance.SOURCE, [one for one in among if one is not gone]))
        moved = [client for client, target in before.items() if after[client] is not target]
        self.assertLessEqual(len(moved), 1.5 / count * len(before))
        self.assertTrue(all(before[client] is gone for client in moved))

    def test_weights(self) -> None:
        """Clients are spread by weight."""
        among = targets(1, 3)
        found = Counter(self.clients(made(Balance.SOURCE, among)).values())
        self.assertLess(abs(found[among[1]] / 3000 - 0.75), 0.08)

    @given(weights, st.integers(0, 400))
    def test_bound(self, shares: list[int], sessions: int) -> None:
        """One client with many sessions does not give its target more than 1.25 times its part."""
        among = targets(*shares)
        picker = made(Balance.SOURCE, among)
        for _ in range(sessions):
            chosen = picker.pick("192.0.2.1", ())
            assert isinstance(chosen, Target)
            chosen.taken += 1
        for one in among:
            part = BOUND * sessions * one.share / sum(shares)
            self.assertLessEqual(one.taken, max(FEW_SESSIONS, part + 1))

    def test_one_of_many_leaves(self) -> None:
        """With so many targets that each has fewer points, one that leaves moves its own clients only."""
        among = targets(*[1] * 900)
        before = self.clients(made(Balance.SOURCE, among))
        after = self.clients(made(Balance.SOURCE, among[1:]))
        self.assertTrue(all(before[one] is among[0] for one in before if after[one] is not before[one]))

    def test_many_targets(self) -> None:
        """The ring is bounded, whatever the weights are."""
        picker = BySource(lambda: 0)
        picker.update(targets(*[256] * 600))
        self.assertLess(len(picker.points), 70_000)
