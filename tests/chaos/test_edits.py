"""Random rules files: what is good can be read, what is broken is refused."""

from __future__ import annotations

from pathlib import Path
from random import Random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from tests.chaos.edits import BREAKAGES, Places, broken, edited, free_of_conflicts, texts
from tests.chaos.model import Spec

PLACES = Places(Path("/run/chaos"), (1001, 1002, 1003), 1004, 1005, 1006, names=True)


class EditsTests(SynchronousTestCase):
    """`edited`, `texts` and `broken`."""

    def whole(self, specs: list[Spec]) -> str:
        """Both files in one."""
        text, more = texts(PLACES, specs, 0)
        return text.replace("include more.conf\n", more)

    def test_good(self) -> None:
        """Every file that is made can be read and has the rules that it says."""
        chance = Random(1)
        specs: list[Spec] = []
        for _ in range(300):
            specs = edited(chance, PLACES, specs)
            ruleset = parse(self.whole(specs), "x")
            self.assertEqual({rule.name for rule in ruleset.rules}, {spec.name for spec in specs})

    def test_same_seed(self) -> None:
        """A seed makes the same files again."""

        def some() -> list[list[Spec]]:
            chance = Random(7)
            made: list[list[Spec]] = [[]]
            for _ in range(20):
                made.append(edited(chance, PLACES, made[-1]))
            return made

        self.assertEqual(some(), some())

    def test_conflicts(self) -> None:
        """No two rules are at one port, path or name; a port may have connections and datagrams."""
        tcp = Spec("a", "tcp", "127.0.0.1", "1")
        udp, wildcard = evolve(tcp, name="b", kind="udp"), evolve(tcp, name="c", host="0.0.0.0")
        file = Spec("d", "unix", "", "s1")
        found = free_of_conflicts([tcp, udp, wildcard, file, evolve(file, name="e", kind="unix-dgram")])
        self.assertEqual([spec.name for spec in found], ["a", "b", "d"])

    def test_broken(self) -> None:
        """Each way to break a file adds to it; what a reader can see is refused by it."""
        text = self.whole([Spec("a", "tcp", "127.0.0.1", "1001")])
        seen = {broken(Random(seed), PLACES, text) for seed in range(200)}
        self.assertEqual(len(seen), len(BREAKAGES))
        for one in seen:
            self.assertTrue(one.startswith(text))
            if any(word in one for word in ("nonsense", "ilde", "nosuch.conf", "limit=nosuch")):
                self.assertRaises(RulesError, parse, one, "x")
