"""Tests of `portfwd.limits.admission`: who may come in now."""

from __future__ import annotations

import gc
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.admission import NO_BOUNDS, Admission, AdmissionRegistry, Bounds


def admission(registry: AdmissionRegistry, name: str = "web", **bounds: object) -> Admission:
    """The limits of a rule, of which there are some."""
    made = registry.rule(name, Bounds(**bounds))  # type: ignore[arg-type]
    assert made is not None
    return made


class RefusingTests(SynchronousTestCase):
    """Limits at which clients are refused."""

    def test_nothing(self) -> None:
        """A rule without limits has nothing that judges, unless all rules together have some."""
        self.assertIs(AdmissionRegistry().rule("web", NO_BOUNDS), None)
        self.assertIs(AdmissionRegistry().rule("web", Bounds(wait=True)), None)
        self.assertIsNot(AdmissionRegistry(Bounds(max_conns=1)).rule("web", NO_BOUNDS), None)

    def test_max_conns(self) -> None:
        """So many at a time; who leaves lets another in."""
        web = admission(AdmissionRegistry(), max_conns=2)
        self.assertEqual([web.admit(0.0) for _ in range(3)], ["", "", "max-conns=2"])
        web.left()
        self.assertEqual([web.admit(0.0) for _ in range(2)], ["", "max-conns=2"])
        self.assertEqual((repr(web), web.refused), ("<Admission web 2 in>", {"max-conns": 2}))

    def test_rate(self) -> None:
        """So many a second; those who are refused cost no token."""
        web = admission(AdmissionRegistry(), rate=2.0)
        self.assertEqual([web.admit(5.0) for _ in range(4)], ["", "", "rate=2/s", "rate=2/s"])
        self.assertEqual([web.admit(5.5) for _ in range(2)], ["", "rate=2/s"])

    def test_sources(self) -> None:
        """So many from one source at a time, and so many a second."""
        web = admission(AdmissionRegistry(), max_conns_per_source=1, rate_per_source=0.5)
        self.assertTrue(web.by_source)
        self.assertEqual([web.admit_source(one, 0.0) for one in "aba"], ["", "", "max-conns-per-source=1"])
        web.left_source("a", 1.0)
        self.assertEqual(web.admit_source("a", 1.0), "rate-per-source=0.5/s")
        self.assertEqual(web.admit_source("a", 2.0), "")
        self.assertEqual(web.refused, {"max-conns-per-source": 1, "rate-per-source": 1})

    def test_shared(self) -> None:
        """The limits that rules share count the sessions of each, and are called by their name."""
        registry = AdmissionRegistry(shared={"db": Bounds(max_conns=2, rate=3.0, max_conns_per_source=1)})
        rules = [registry.rule(name, NO_BOUNDS, "db") for name in ("web", "ssh")]
        web, ssh = (rule for rule in rules if rule is not None)
        other = admission(registry, "other", max_conns=1)
        self.assertEqual([one.admit(0.0) for one in (web, ssh, other)], ["", "", ""])
        self.assertEqual([web.has_room, web.admit(0.0)], [False, "limits db max-conns=2"])
        web.left()
        self.assertEqual(ssh.admit(0.0), "")
        web.left()
        self.assertEqual(web.admit(0.0), "limits db rate=3/s")
        self.assertEqual(
            web.refused,
            {"limits db max-conns": 1, "limits db rate": 1, "limits db max-conns-per-source": 0},
        )
        self.assertEqual([web.admit_source("a", 0.0), other.admit_source("a", 0.0)], ["", ""])
        self.assertEqual(ssh.admit_source("a", 0.0), "limits db max-conns-per-source=1")
        web.left_source("a", 0.0)
        self.assertEqual(ssh.admit_source("a", 0.0), "")

    def test_shared_changes(self) -> None:
        """Shared limits may change from one moment to the next; without a line there are none."""
        registry = AdmissionRegistry(shared={"db": Bounds(max_conns=1)})
        web = registry.rule("web", NO_BOUNDS, "db")
        assert web is not None
        web.admit(0.0)
        self.assertEqual(web.admit(0.0), "limits db max-conns=1")
        registry.bound(NO_BOUNDS, {"db": Bounds(max_conns=2)})
        self.assertEqual([web.admit(0.0), web.admit(0.0)], ["", "limits db max-conns=2"])
        registry.bound(NO_BOUNDS)
        self.assertEqual(web.admit(0.0), "")

    def test_take_over(self) -> None:
        """A session that goes from one rule to another counts where the other counts, and only there."""
        registry = AdmissionRegistry(
            Bounds(max_conns=9), shared={"a": Bounds(max_conns=1), "b": Bounds(max_conns=1)}
        )
        old, new = registry.rule("old", NO_BOUNDS, "a"), registry.rule("new", NO_BOUNDS, "b")
        assert old is not None and new is not None
        self.assertFalse(new.is_as(old))
        self.assertEqual([old.admit(0.0), old.admit_source("s", 0.0)], ["", ""])
        new.take_over(old)
        new.take_over_source(old, "s", 0.0)
        self.assertEqual(
            (repr(old), repr(new), registry.everybody.taken),
            ("<Admission old 0 in>", "<Admission new 1 in>", 1),
        )
        self.assertEqual([old.has_room, new.has_room], [True, False])
        new.left()
        new.left_source("s", 0.0)
        self.assertEqual((registry.everybody.taken, new.has_room, len(registry.sources)), (0, True, 0))

    def test_everybody(self) -> None:
        """The limits of all rules together count the sessions of all, and are called by their directive."""
        registry = AdmissionRegistry(Bounds(max_conns=2, max_conns_per_source=1))
        web, ssh = admission(registry), admission(registry, "ssh", max_conns=1)
        self.assertEqual([web.admit(0.0), ssh.admit(0.0), web.admit(0.0)], ["", "", "limits max-conns=2"])
        self.assertEqual(ssh.admit(0.0), "max-conns=1")
        ssh.left()
        self.assertEqual(web.admit(0.0), "")
        self.assertEqual(
            [web.admit_source("a", 0.0), ssh.admit_source("a", 0.0)], ["", "limits max-conns-per-source=1"]
        )
        web.left_source("a", 0.0)
        self.assertEqual(ssh.admit_source("a", 0.0), "")
        self.assertEqual(repr(registry), "<AdmissionRegistry 2 in, <SourceCounts 2 known, 0 forgotten>>")

    def test_rules_do_not_share(self) -> None:
        """What one rule's limit counts is no other's."""
        registry = AdmissionRegistry()
        web, ssh = admission(registry, max_conns=1), admission(registry, "ssh", max_conns=1)
        self.assertEqual([web.admit(0.0), ssh.admit(0.0)], ["", ""])

    def test_reload(self) -> None:
        """The same rule with other limits goes on counting; one that is gone with its sessions does not."""
        registry = AdmissionRegistry()
        old = admission(registry, max_conns=5, rate=1.0)
        self.assertEqual(old.admit(0.0), "")
        new = admission(registry, max_conns=1)
        self.assertEqual(new.admit(0.0), "max-conns=1")
        old.left()
        self.assertEqual(new.admit(0.0), "")
        del old, new
        gc.collect()
        self.assertEqual(admission(registry, max_conns=1).admit(0.0), "")

    def test_overall_changes(self) -> None:
        """The limits of all rules together may be others from one moment to the next."""
        registry = AdmissionRegistry(Bounds(max_conns=1, wait=True))
        web = admission(registry)
        woken: list[int] = []
        self.assertEqual((web.admit(0.0), web.closed_for(0.0)), ("", math.inf))
        web.wait(lambda: woken.append(1))
        registry.bound(Bounds(max_conns=2))
        self.assertEqual((woken, web.closed_for(0.0), web.waits), ([1], 0.0, False))
        self.assertEqual([web.admit(0.0), web.admit(0.0)], ["", "limits max-conns=2"])

    def test_targets(self) -> None:
        """Each target of each rule has a count of its own, and keeps it while anybody has it."""
        registry = AdmissionRegistry()
        one = registry.target("web", "10.0.0.5:80")
        self.assertIs(registry.target("web", "10.0.0.5:80"), one)
        self.assertIsNot(registry.target("ssh", "10.0.0.5:80"), one)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["web", "ssh"]), st.booleans()), max_size=60))
    def test_never_more(self, steps: list[tuple[str, bool]]) -> None:
        """In whatever order they come and leave: never more than allowed, and never refused without need."""
        registry = AdmissionRegistry(Bounds(max_conns=4))
        rules = {name: admission(registry, name, max_conns=3) for name in ("web", "ssh")}
        inside = {"web": 0, "ssh": 0}
        for name, comes in steps:
            if comes:
                room = inside[name] < 3 and sum(inside.values()) < 4
                self.assertEqual(not rules[name].admit(0.0), room)
                inside[name] += room
            elif inside[name]:
                rules[name].left()
                inside[name] -= 1


class WaitingTests(SynchronousTestCase):
    """Limits at which clients wait before they are accepted."""

    def test_open(self) -> None:
        """Where clients are refused nobody has to wait."""
        web = admission(AdmissionRegistry(), max_conns=1, rate=1.0)
        web.admit(0.0)
        self.assertEqual((web.waits, web.closed_for(0.0)), (False, 0.0))

    def test_sources_cannot_wait(self) -> None:
        """Whose turn it is is only known once he is accepted, so limits of sources refuse in any case."""
        web = admission(AdmissionRegistry(), max_conns_per_source=1, wait=True)
        web.admit_source("a", 0.0)
        self.assertEqual(web.closed_for(0.0), 0.0)
        self.assertEqual(web.admit_source("a", 0.0), "max-conns-per-source=1")

    def test_full(self) -> None:
        """Who finds it full is woken when one leaves, once."""
        web = admission(AdmissionRegistry(), max_conns=1, wait=True)
        woken: list[int] = []
        self.assertEqual((web.waits, web.closed_for(0.0)), (True, 0.0))
        web.admit(0.0)
        self.assertEqual(web.closed_for(0.0), math.inf)
        web.wait(lambda: woken.append(1))
        web.pass_on()
        self.assertEqual(woken, [])
        web.left()
        self.assertEqual((woken, web.closed_for(0.0)), ([1], 0.0))
        web.pass_on()
        self.assertEqual(woken, [1])

    def test_rate(self) -> None:
        """Who comes too fast is told how long to wait."""
        web = admission(AdmissionRegistry(), rate=4.0, wait=True)
        for _ in range(4):
            self.assertEqual(web.closed_for(1.0), 0.0)
            web.admit(1.0)
        self.assertAlmostEqual(web.closed_for(1.0), 0.25)

    def test_everybody(self) -> None:
        """One place for all rules: each that waits is woken in turn, and passes on what it does not use."""
        registry = AdmissionRegistry(Bounds(max_conns=1, wait=True))
        rules = [admission(registry, name) for name in "abc"]
        woken: list[str] = []
        rules[0].admit(0.0)
        for name, rule in zip("abc", rules, strict=True):
            self.assertEqual(rule.closed_for(0.0), math.inf)
            rule.wait(lambda name=name: woken.append(name))  # type: ignore[misc]
        rules[0].left()
        self.assertEqual(woken, ["a"])
        rules[0].pass_on()
        self.assertEqual(woken, ["a", "b"])
        rules[1].admit(0.0)
        rules[1].pass_on()
        self.assertEqual(woken, ["a", "b"])

    def test_shared(self) -> None:
        """Rules that share a slot are woken in turn; a rule without a share is not kept waiting."""
        registry = AdmissionRegistry(shared={"db": Bounds(max_conns=1, rate=2.0, wait=True)})
        found = [registry.rule(name, NO_BOUNDS, "db") for name in "ab"]
        first, second = (rule for rule in found if rule is not None)
        woken: list[str] = []
        first.admit(0.0)
        self.assertEqual((second.waits, second.closed_for(0.0)), (True, math.inf))
        self.assertEqual(admission(registry, "c", max_conns=1).closed_for(0.0), 0.0)
        for name, rule in (("a", first), ("b", second)):
            rule.wait(lambda name=name: woken.append(name))  # type: ignore[misc]
        first.left()
        self.assertEqual(woken, ["a"])
        first.pass_on()
        self.assertEqual(woken, ["a", "b"])
        second.admit(0.0)
        second.left()
        self.assertAlmostEqual(second.closed_for(0.0), 0.5)

    def test_shared_changes(self) -> None:
        """A change of shared limits wakes a client that waits for a slot."""
        registry = AdmissionRegistry(shared={"db": Bounds(max_conns=1, wait=True)})
        rule = registry.rule("a", NO_BOUNDS, "db")
        assert rule is not None
        woken: list[int] = []
        rule.admit(0.0)
        rule.wait(lambda: woken.append(1))
        registry.bound(NO_BOUNDS, {"db": Bounds(max_conns=2, wait=True)})
        self.assertEqual((woken, rule.closed_for(0.0)), ([1], 0.0))

    def test_own_limit_does_not_block_others(self) -> None:
        """A rule that is full itself passes a place of all rules on to those who can use it."""
        registry = AdmissionRegistry(Bounds(max_conns=2, wait=True))
        full, other = admission(registry, "full", max_conns=1, wait=True), admission(registry, "other")
        woken: list[str] = []
        full.admit(0.0)
        other.admit(0.0)
        other.wait(lambda: woken.append("other"))
        full.wait(lambda: woken.append("full"))
        registry.bound(Bounds(max_conns=3, wait=True))
        full.pass_on()
        self.assertEqual(woken, ["other"])

    def test_forget(self) -> None:
        """Who does not wait any more is not woken."""
        registry = AdmissionRegistry(Bounds(max_conns=1, wait=True))
        web = admission(registry, max_conns=1, wait=True)
        woken: list[int] = []

        def wake() -> None:
            woken.append(1)

        web.admit(0.0)
        web.wait(wake)
        web.forget(wake)
        web.left()
        self.assertEqual(woken, [])
