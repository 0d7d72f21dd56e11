"""Work that may be interrupted: done in one go, or as far as somebody wants."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import load, parse
from portfwd.rules.load import load_in_steps
from portfwd.rules.steps import Steps, finish
from portfwd.service.daemon.disk import DiskFiles


class StepsTests(SynchronousTestCase):
    """Generators that return."""

    def test_finish(self) -> None:
        """All steps are done, and the result comes out."""
        done: list[int] = []

        def work() -> Steps[str]:
            for number in range(3):
                done.append(number)
                yield
            return "result"

        self.assertEqual((finish(work()), done), ("result", [0, 1, 2]))

    def test_error(self) -> None:
        """What a step raises passes."""

        def work() -> Steps[str]:
            yield
            raise KeyError("x")

        self.assertRaises(KeyError, finish, work())


class LoadTests(SynchronousTestCase):
    """A file read in steps is the file read at once."""

    def file(self, name: str, text: str) -> str:
        """A file beside the others of this test."""
        path = f"{self.directory}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def test_same(self) -> None:
        """The rules are equal, included ones too, and no step holds more than a line or a rule."""
        rules = "".join(f"r{number}: 127.0.0.1:{number} -> 10.0.0.1:1\n" for number in range(1, 200))
        self.file("inner.conf", rules)
        path = self.file("outer.conf", "include inner.conf\nlast: :300 -> 10.0.0.1:1\n")
        steps = load_in_steps(path, DiskFiles())
        count = sum(1 for _ in steps)
        self.assertGreater(count, 600)
        self.assertEqual(load(path, DiskFiles()).rules[:-1], parse(rules, "x").rules)

    def test_toml(self) -> None:
        """oxidinetd's form has a step for each rule as well."""
        rule = (
            '[[forwarding_rules]]\nbind_address="127.0.0.1"\nbind_port={}\n'
            'connect_address="10.0.0.1"\nconnect_port=1\n'
        )
        path = self.file("rules.toml", "".join(rule.format(number) for number in range(1, 50)))
        self.assertGreater(sum(1 for _ in load_in_steps(path, DiskFiles())), 150)

    def test_problems(self) -> None:
        """A bad file is refused with all its problems."""
        path = self.file("bad.conf", ":1 -> 10.0.0.1:1 nosuch=1\n:2 -> 10.0.0.1:1 nosuch=1\n")
        problem = self.assertRaises(RulesError, finish, load_in_steps(path, DiskFiles()))
        self.assertEqual(len(problem.problems), 2)
