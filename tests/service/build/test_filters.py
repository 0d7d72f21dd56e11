"""Tests of `portfwd.service.build.filters`: clauses of a rule become factories or located problems."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import evolve
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.admin.tight_files import MAX_SIZE
from portfwd.errors import RulesError
from portfwd.filters import Connection, IFilterFactory, RouteClause
from portfwd.filters.builtin.users import hash_password
from portfwd.filters.options import OptionFiles
from portfwd.filters.registry import Registry
from portfwd.rules import parse
from portfwd.rules.codes import CODES
from portfwd.rules.model import FilterSpec, Rule
from portfwd.service.build.filters import DISK, configure, filter_problems, read_tight_text
from portfwd.service.embed import forward
from tests.filters.plugins import Bare
from tests.rules.golden import FILTER_CODES, FILTERS

FILES = OptionFiles(lambda path: f"text of {path}", str)
CONNECTION = Connection(1, "web", Logger())
PYTHON = "python:tests.filters.plugins"


def rule(*clauses: str) -> Rule:
    """A rule with these lines beneath it."""
    text = ":80 -> a:80\n" + "".join(f"  {clause}\n" for clause in clauses)
    return parse(text, "f").rules[0]


class ConfigureTests(SynchronousTestCase):
    """Clauses that are right."""

    def test_in_order(self) -> None:
        """Each clause has a factory, in the order of the rule, and keeps its name."""
        found = configure(rule("filter router first trust=::1", "filter bare"), FILTERS, FILES)
        self.assertEqual(found.problems, ())
        self.assertEqual([clause.name for clause in found.clauses], ["router", "bare"])
        for clause in found.clauses:
            verifyObject(IFilterFactory, clause.factory)
        self.assertIsInstance(found.clauses[1].factory.build(CONNECTION), Bare)

    def test_none(self) -> None:
        """A rule without filters needs nothing."""
        found = configure(rule(), FILTERS, FILES)
        self.assertEqual((found.clauses, found.problems), ((), ()))

    def test_routes(self) -> None:
        """Routes come with their targets: a named one, a written one, or None to close."""
        one = rule(
            f"filter {PYTHON}.Annotated greeting=hi",
            "route a b -> x",
            "route c -> c:1",
            "route * -> close",
            "target x=d:2",
        )
        ((_, factory),) = configure(one, FILTERS, FILES).clauses
        clauses = factory.build(CONNECTION).said[-1]
        written = one.routes[1].target
        self.assertEqual(
            clauses,
            (
                RouteClause(("a", "b"), one.named_targets[0]),
                RouteClause(("c",), written),
                RouteClause(("*",), None),
            ),
        )
        self.assertIs(clauses[0].target, one.named_targets[0])

    def test_files(self) -> None:
        """Options that name a file get what is in it, by the reader that was handed in."""
        found = configure(rule("filter router first trust=::1 names=n.txt"), FILTERS, FILES)
        self.assertEqual(found.problems, ())
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("x")
        self.assertEqual(DISK.read(path), "x")
        self.assertEqual(DISK.absolute("x"), os.path.join(os.getcwd(), "x"))


class ProblemTests(SynchronousTestCase):
    """Clauses that are wrong; the texts are those of ``tests/rules/broken``."""

    def codes(self, one: Rule) -> list[str]:
        """The codes of what is wrong."""
        return [problem.code for problem in configure(one, FILTERS, FILES).problems]

    def test_wrong_use(self) -> None:
        """What a filter's class or factory gets wrong is told before the first client."""
        for name, text in (("Loose", "max_hold must be a whole number"), ("Slip", "did you mean received?")):
            (problem,) = configure(rule(f"filter {PYTHON}.{name}"), FILTERS, FILES).problems
            self.assertEqual(problem.code, "bad-filter")
            self.assertIn(text, problem.message)

    def test_loose_users(self) -> None:
        """A file of users that others may write is refused, with the way out; one that is tight is read."""
        path = Path(self.mktemp()).absolute()
        path.write_text(hash_password("alice", "secret", b"salt" * 4, rounds=1000) + "\n")
        path.chmod(0o644)
        clause = f"filter socks5 users={path}"
        self.assertEqual(configure(rule(clause), Registry.installed(), DISK).problems, ())
        for mode in (0o666, 0o664):
            path.chmod(mode)
            (problem,) = configure(rule(clause), Registry.installed(), DISK).problems
            self.assertIn(f"is accessible to others (mode {mode:04o}): chmod go-w", problem.message)

    def test_users_that_are_no_text(self) -> None:
        """A file of users that is not UTF-8, too large or a FIFO is named, with a remedy."""
        path = os.path.abspath(self.mktemp())
        for data, said in (
            (b"a:b\n\xa9", f"'{path}': byte 0xa9 at position 4 is not UTF-8; save the file as UTF-8"),
            (bytes(MAX_SIZE + 1), f"{path} has more than {MAX_SIZE} bytes; is it the right file?"),
        ):
            with open(path, "wb") as file:
                file.write(data)
            problem = self.assertRaises(ValueError, read_tight_text, path)
            self.assertIn(said, str(problem))
        os.unlink(path)
        os.mkfifo(path)
        problem = self.assertRaises(ValueError, read_tight_text, path)
        self.assertEqual(str(problem), f"{path} is not a regular file; name one")

    def test_exits(self) -> None:
        """A filter that would leave the program while it is configured is a problem of its clause."""
        (problem,) = configure(rule(f"filter {PYTHON}.Exiting"), FILTERS, FILES).problems
        self.assertIn("fails to be configured: SystemExit: 3", problem.message)

    def test_all_at_once(self) -> None:
        """Every clause is judged, and those that are right are there all the same."""
        found = configure(rule("filter nosuch", "filter bare", "filter bare x y"), FILTERS, FILES)
        self.assertEqual(
            [problem.code for problem in found.problems],
            ["unknown-filter", "bad-filter-option", "bad-filter-option"],
        )
        self.assertEqual(
            [str(problem.location) for problem in found.problems], ["f:2:10", "f:4:15", "f:4:17"]
        )
        self.assertEqual([clause.name for clause in found.clauses], ["bare"])

    def test_places(self) -> None:
        """A wrong key is marked where the key stands, a wrong value where the value does, quotes included."""
        found = configure(rule('filter router "first" trust="x y" zz=1'), FILTERS, FILES)
        marked = [
            problem.location.text[problem.location.column - 1 :][: problem.location.length]
            for problem in found.problems
        ]
        self.assertEqual(sorted(marked), ['"x y"', "zz"])

    def test_without_places(self) -> None:
        """A rule that a program made has no places; its problems are those of the clause."""
        spec = FilterSpec("router", ("x",), (("trust", "y"), ("zz", "1")))
        one = evolve(rule(), filters=(spec,))
        problems = configure(one, FILTERS, FILES).problems
        self.assertEqual([problem.location for problem in problems], [spec.where] * 3)

    def test_routes_without_a_chooser(self) -> None:
        """Routes need a filter that chooses by them; a filter that is not there is wrong enough."""
        self.assertEqual(self.codes(rule("filter bare", "route * -> b:1")), ["route-without-routing-filter"])
        self.assertEqual(self.codes(rule("filter nosuch", "route * -> b:1")), ["unknown-filter"])
        self.assertEqual(self.codes(rule("filter router", "route * -> b:1")), ["bad-filter-option"] * 2)
        self.assertEqual(
            self.codes(rule("filter bare", "filter router first trust=::1", "route * -> b:1")), []
        )

    def test_order(self) -> None:
        """What has to come first stands behind all that hold the client's bytes."""
        first, chooser = "filter leader", "filter router first trust=::1"
        self.assertEqual(self.codes(rule(chooser, first)), [])
        self.assertEqual(self.codes(rule(first, "filter bare")), [])
        self.assertEqual(self.codes(rule(first, "filter bare", chooser)), ["bad-filter-order"])
        self.assertEqual(self.codes(rule(first, "filter nosuch", chooser)), ["unknown-filter"])

    def test_pattern(self) -> None:
        """A pattern that the filter refuses is marked itself; what no single one is to blame for, is not."""
        routes = ("route a -> b:1", 'route c "d e" -> close')
        (problem,) = configure(rule("filter pedant", *routes), FILTERS, FILES).problems
        self.assertEqual((problem.code, str(problem.location)), ("bad-route-pattern", "f:4:11"))
        for count, message in ((3, "2 routes are too few"), (10, "nobody has so many routes")):
            one = rule(f"filter pedant routes={count}", "route a -> b:1", "route c -> close")
            (problem,) = configure(one, FILTERS, FILES).problems
            self.assertEqual((problem.code, str(problem.location)), ("bad-filter-option", "f:2:10"))
            self.assertIn(message, problem.message)

    def test_route_to_nowhere(self) -> None:
        """A route of a program's rule to a target that it does not have is refused, not closed."""
        one = rule("filter router first trust=::1", "route * -> x", "target x=d:1")
        self.assertEqual(self.codes(evolve(one, named_targets=())), ["unknown-target"])

    def test_codes(self) -> None:
        """Every code of filters is known to the rules."""
        self.assertEqual(FILTER_CODES - set(CODES), set())

    def test_silent_refusal(self) -> None:
        """A plug-in that refuses without a word is given some."""
        one = rule(f"filter {PYTHON}.Silent")
        (problem,) = configure(one, FILTERS, FILES).problems
        self.assertIn("its options do not go together", problem.message)


class RulesetTests(SynchronousTestCase):
    """All rules of a file."""

    def test_order(self) -> None:
        """Problems come in the order of the file."""
        found = parse(":1 -> a:1\n  filter bare x\n:2 -> a:1\n  filter nosuch\n", "f")
        problems = filter_problems(found, FILTERS, FILES)
        self.assertEqual([str(problem.location) for problem in problems], ["f:2:15", "f:4:10"])

    def test_installed(self) -> None:
        """Without a registry, what is installed counts; without filters, nobody looks."""
        found = parse(f":1 -> a:1\n  filter nosuch\n  filter {PYTHON}.Bare\n", "f")
        self.assertEqual([problem.code for problem in filter_problems(found)], ["unknown-filter"])

        def installed() -> Registry:
            raise AssertionError("nobody asked")

        self.patch(Registry, "installed", installed)
        self.assertEqual(filter_problems(parse(":1 -> a:1\n", "f")), ())

    def test_embedded(self) -> None:
        """A program that forwards by a rule gets the problems as an exception."""
        refusal = self.assertRaises(RulesError, forward, object(), ":1 -> a:1\n  filter nosuch\n")
        assert isinstance(refusal, RulesError)
        self.assertIn("unknown-filter", [problem.code for problem in refusal.problems])

    def test_base_class(self) -> None:
        """The base class is a filter too."""
        self.assertEqual(
            filter_problems(parse(":1 -> a:1\n  filter python:portfwd.filters.Filter\n", "f")), ()
        )
