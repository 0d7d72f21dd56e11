"""Tests of `portfwd.errors`: the tree, and what each of its members carries."""

from __future__ import annotations

import inspect
import re

from twisted.trial.unittest import SynchronousTestCase

from portfwd import errors
from portfwd.errors import DialError, Location, OutOfResources, PortfwdError, Problem, RulesError, StartError


class TreeTests(SynchronousTestCase):
    """The tree in the module's docstring is the tree of the classes."""

    def test_docstring(self) -> None:
        """Every exception is drawn, beneath its base, and nothing else is."""
        drawn: list[tuple[int, str]] = [
            (match.start(1), match[1])
            for line in (errors.__doc__ or "").splitlines()
            if (match := re.match(r"    [│├└─ ]*([A-Z]\w+)", line))
        ]
        parents: dict[str, str] = {}
        path: list[tuple[int, str]] = []
        for column, name in drawn:
            while path and path[-1][0] >= column:
                path.pop()
            parents[name] = path[-1][1] if path else "Exception"
            path.append((column, name))
        real = {
            name: value.__bases__[0].__name__
            for name, value in vars(errors).items()
            if inspect.isclass(value) and issubclass(value, BaseException)
        }
        self.assertEqual(parents, real)
        self.assertGreater(len(real), 5)

    def test_one_root(self) -> None:
        """Who catches the root catches all."""
        for error in (RulesError(()), StartError(()), DialError()):
            self.assertIsInstance(error, PortfwdError)


class ContentTests(SynchronousTestCase):
    """What they say."""

    def test_rules_error(self) -> None:
        """It carries every problem, and its text has a line for each with the place."""
        problems = [
            Problem(Location("a.conf", line, 3), "unknown-option", f"problem {line}") for line in (1, 2)
        ]
        error = RulesError(problems)
        self.assertEqual(error.problems, tuple(problems))
        lines = str(error).splitlines()
        self.assertEqual(len(lines), 2)
        for line, problem in zip(lines, problems, strict=True):
            self.assertIn(str(problem.location), line)
            self.assertIn(problem.message, line)

    def test_start_error(self) -> None:
        """Its text is one line for each failure."""
        error = StartError(["web: :80: in use", "dns: :53: not permitted"])
        self.assertEqual(str(error), "web: :80: in use\ndns: :53: not permitted")
        self.assertEqual(len(error.failures), 2)

    def test_retry(self) -> None:
        """Another target may help against every failure of a dial but our own lack of resources."""
        pending, leaves = [DialError], []
        while pending:
            kind = pending.pop()
            leaves.append(kind)
            pending.extend(kind.__subclasses__())
        self.assertEqual([kind for kind in leaves if not kind.retry], [OutOfResources])
        self.assertEqual(len(leaves), 10)
