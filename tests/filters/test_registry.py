"""Tests of `portfwd.filters.registry`: which filters there are, and what is said where one is not."""

from __future__ import annotations

import sys
import tomllib
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.filters import TO_CLIENT, TO_UPSTREAM, IFilterPlugin, RouteClause
from portfwd.filters.clause_reading import example
from portfwd.filters.options import OptionFiles, OptionProblem
from portfwd.filters.own_factory import Arguments
from portfwd.filters.registry import BUILT_IN, GROUP, OWN, Origin, Registry, Unavailable, origin_of
from portfwd.testing import check_filter
from tests.filters.plugins import ROUTER, Annotated, Bare, RouterOptions, WholePlugin

FILES = OptionFiles(str, str)
HERE = "tests.filters.plugins"


def registry(**paths: str) -> Registry:
    """A registry of one package that has these."""
    return Registry(
        Origin(name.replace("_", "-"), path, "some-filters", "1.2") for name, path in paths.items()
    )


class FindTests(SynchronousTestCase):
    """Names that lead to a plug-in."""

    def test_plugin(self) -> None:
        """An entry point names a plug-in."""
        found = registry(router=f"{HERE}:ROUTER").find("router")
        self.assertIs(found.plugin, ROUTER)
        self.assertEqual((found.summary, found.takes_routes), ("Chooses.", True))
        self.assertEqual([one.key for one in found.options], ["mode", "trust", "wait", "names", "also"])
        self.assertEqual(str(found.origin), f"{HERE}:ROUTER of some-filters 1.2")

    def test_plugin_class(self) -> None:
        """Or the class of one."""
        found = registry(whole=f"{HERE}:WholePlugin").find("whole")
        self.assertIsInstance(found.plugin, WholePlugin)
        self.assertEqual(found.summary, "Passes everything, and says so. It has no options.")

    def test_filter_class(self) -> None:
        """Or a class of filters, which is its own factory."""
        found = registry(bare=f"{HERE}:Bare").find("bare")
        verifyObject(IFilterPlugin, found.plugin)
        self.assertIs(found.plugin.options, Bare)
        self.assertFalse(found.takes_routes)

    def test_python(self) -> None:
        """Code that is not packaged is named by its import path; so is a plug-in."""
        found = Registry(()).find(f"python:{HERE}.Annotated")
        self.assertIs(found.plugin.options, Annotated)
        self.assertEqual([one.key for one in found.options][:2], ["greeting", "limit"])
        self.assertEqual(str(found.origin), f"{HERE}:Annotated")
        self.assertIs(Registry(()).find(f"python:{HERE}.ROUTER").plugin, ROUTER)

    def test_once(self) -> None:
        """A name is looked up once."""
        some = registry(bare=f"{HERE}:Bare")
        self.assertIs(some.find("bare"), some.find("bare"))
        self.assertEqual(repr(some), "<Registry 1 filters, 1 imported>")

    def test_lazy(self) -> None:
        """Nothing is imported before it is asked for."""
        some = registry(lazy="tests.filters.broken_plugin:PLUGIN", bare=f"{HERE}:Bare")
        sys.modules.pop("tests.filters.broken_plugin", None)
        some.find("bare")
        self.assertEqual(some.names, ("bare", "lazy"))
        self.assertNotIn("tests.filters.broken_plugin", sys.modules)

    def test_found_twice(self) -> None:
        """What one distribution has twice on the path is one filter."""
        some = Registry([Origin("bare", f"{HERE}:Bare", "p", "1"), Origin("bare", f"{HERE}:Bare", "p", "2")])
        self.assertIs(some.find("bare").plugin.options, Bare)

    def test_read(self) -> None:
        """A clause is read by the plug-in's options class, or by the arguments of a filter class."""
        router = registry(router=f"{HERE}:ROUTER").find("router")
        options = router.read(["first"], [("trust", "::1")], FILES)
        self.assertIsInstance(options, RouterOptions)
        annotated = Registry(()).find(f"python:{HERE}.Annotated")
        self.assertEqual(
            annotated.read((), [("greeting", "hi"), ("loud", "on")], FILES),
            Arguments({"greeting": "hi", "loud": True}),
        )
        (problem,) = annotated.read((), [], FILES)
        self.assertEqual(problem, OptionProblem("'greeting' is missing", "write greeting=TEXT"))


class UnavailableTests(SynchronousTestCase):
    """Names that lead nowhere."""

    def refused(self, some: Registry, name: str, code: str) -> Unavailable:
        """What is said about `name`."""
        refusal = self.assertRaises(Unavailable, some.find, name)
        assert isinstance(refusal, Unavailable)
        self.assertEqual(refusal.code, code, refusal.message)
        self.assertEqual(str(refusal), refusal.message)
        self.assertNotIn("\n", refusal.message)
        return refusal

    def test_unknown(self) -> None:
        """A name that nobody has is suggested the nearest, or told all."""
        some = registry(http_host=f"{HERE}:Bare", sni=f"{HERE}:Bare")
        self.assertEqual(self.refused(some, "httphost", "unknown-filter").hint, "did you mean 'http-host'?")
        self.assertEqual(
            self.refused(some, "zz\x1b", "unknown-filter").message, r"there is no filter called 'zz\x1b'"
        )
        self.assertEqual(
            self.refused(some, "zz", "unknown-filter").hint,
            "there are http-host, sni; python:MODULE.CLASS names any other",
        )
        self.assertIn("none is installed", self.refused(Registry(()), "zz", "unknown-filter").hint)

    def test_ambiguous(self) -> None:
        """A name that two packages have is refused, naming both; and nothing but that name."""
        some = Registry(
            [
                Origin("x", f"{HERE}:Bare", "one", "1"),
                Origin("x", f"{HERE}:ROUTER", "two", "2"),
                Origin("y", f"{HERE}:Bare", "two", "2"),
            ]
        )
        refusal = self.refused(some, "x", "ambiguous-filter")
        self.assertIn(f"{HERE}:Bare of one 1 and {HERE}:ROUTER of two 2", refusal.message)
        self.assertIn(f"python:{HERE}.Bare or python:{HERE}.ROUTER", refusal.hint)
        self.assertEqual(len(list(some.origins())), 3)
        some.find("y")

    def test_import_fails(self) -> None:
        """A module that fails is named with distribution, entry point and error; others work."""
        some = registry(broken="tests.filters.broken_plugin:PLUGIN", bare=f"{HERE}:Bare")
        refusal = self.refused(some, "broken", "filter-import-failed")
        self.assertEqual(
            refusal.message,
            "the filter 'broken' (tests.filters.broken_plugin:PLUGIN of some-filters 1.2) cannot be imported:"
            " ModuleNotFoundError: No module named 'no_such_library'",
        )
        self.assertEqual(refusal.hint, "update or uninstall some-filters")
        some.find("bare")

    def test_import_exits(self) -> None:
        """A module that tries to leave the program is one that cannot be imported."""
        place = Path(self.mktemp())
        place.mkdir()
        (place / "portfwd_leaving_plugin.py").write_text("raise SystemExit\n")
        self.patch(sys, "path", [str(place), *sys.path])
        refusal = self.refused(Registry(()), "python:portfwd_leaving_plugin.X", "filter-import-failed")
        self.assertTrue(refusal.message.endswith("cannot be imported: SystemExit"), refusal.message)
        self.assertEqual(refusal.hint, "mend the module")

    def test_package_without_its_module(self) -> None:
        """An entry point whose module, or whose object, is not there is the package's fault."""
        some = registry(a="no_such_module_at_all:X", b=f"{HERE}:NoSuch", c="not a path", d=":X", e=".x:X")
        for name in ("a", "c", "d", "e"):
            self.refused(some, name, "filter-import-failed")
        self.assertIn("has no 'NoSuch'", self.refused(some, "b", "filter-import-failed").message)

    def test_python(self) -> None:
        """An import path is told apart: no path, no module, no such name in it, or a module that fails."""
        some = Registry(())
        self.assertIn("write python:MODULE.CLASS", self.refused(some, "python:x", "unknown-filter").hint)
        self.refused(some, "python:a..b", "unknown-filter")
        refusal = self.refused(some, "python:no_such_module.X", "unknown-filter")
        self.assertEqual(refusal.message, "there is no module 'no_such_module' on Python's path")
        self.assertIn("PYTHONPATH=", refusal.hint)
        self.refused(some, "python:tests.filters.no_such_module.X", "unknown-filter")
        self.assertEqual(
            self.refused(some, f"python:{HERE}.Anotated", "unknown-filter").hint, "did you mean 'Annotated'?"
        )
        self.assertEqual(self.refused(some, f"python:{HERE}.zzzzzzzz", "unknown-filter").hint, "")
        refusal = self.refused(some, "python:tests.filters.broken_plugin.X", "filter-import-failed")
        self.assertEqual(refusal.hint, "mend the module")

    def test_version(self) -> None:
        """A plug-in for another version of the contract is refused, naming both versions."""
        some = registry(old=f"{HERE}:OLD", future=f"{HERE}:FromTheFuture")
        self.assertIn(
            "written for version 0 of the filter contract; this is version 1",
            self.refused(some, "old", "filter-api-version").message,
        )
        self.refused(some, "future", "filter-api-version")

    def test_no_filter(self) -> None:
        """What is no filter is told what it is, and what it lacks."""
        some = registry(
            nothing=f"{HERE}:NOTHING",
            unfinished=f"{HERE}:Unfinished",
            needs=f"{HERE}:NeedsMore",
            opaque=f"{HERE}:OPAQUE",
            module=HERE,
        )
        self.assertIn("is module, no filter", self.refused(some, "module", "bad-filter").message)
        self.assertIn("is int, no filter", self.refused(some, "nothing", "bad-filter").message)
        refusal = self.refused(some, "unfinished", "bad-filter")
        self.assertIn("is a class without ", refusal.message)
        self.assertIn("woken", refusal.message)
        self.assertIn("portfwd.filters.Filter", refusal.hint)
        self.assertIn("cannot be made: TypeError", self.refused(some, "needs", "bad-filter").message)
        self.assertIn("does not say its options", self.refused(some, "opaque", "bad-filter").message)


class InstalledTests(SynchronousTestCase):
    """What is really there."""

    def test_pyproject(self) -> None:
        """The built-in filters are those of our own entry points."""
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        self.assertEqual(dict(BUILT_IN), project.get("entry-points", {}).get(GROUP, {}))

    def test_built_in(self) -> None:
        """Every built-in filter can be imported, says what it is for, and explains each of its options."""
        some = Registry.installed()
        for name in BUILT_IN:
            found = some.find(name)
            self.assertEqual((found.plugin.name, found.origin.package), (name, OWN))
            self.assertTrue(0 < len(found.summary) <= 80, name)
            for one in found.options:
                self.assertTrue(one.help.endswith("."), f"{name} {one.key}")

    def test_contract(self) -> None:
        """Every built-in filter keeps the contract, with the options of the example that help shows."""
        samples = [
            b"SSH-2.0-x\r\n",
            b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
            [(TO_UPSTREAM, b"\x05\x01\x00"), (TO_CLIENT, b"hello"), (TO_UPSTREAM, b"BitTorrent, secret")],
        ]
        some = Registry.installed()
        for name in BUILT_IN:
            found = some.find(name)
            words = example(name, found.options).split()[2:]
            pairs = [(key, value) for key, _, value in (word.partition("=") for word in words) if value]
            options = found.read([word for word in words if "=" not in word], pairs, FILES)
            self.assertFalse(isinstance(options, list), name)
            # A pattern that is a protocol's name, and may be a host's.
            clauses = (RouteClause(("ssh",), object()),) if found.takes_routes else ()
            check_filter(partial(found.plugin.configure, options, clauses), samples)

    def test_origin(self) -> None:
        """An entry point that no distribution owns leads somewhere all the same."""
        self.assertEqual(origin_of(EntryPoint("x", "a:B", GROUP)), Origin("x", "a:B"))
        self.assertEqual(origin_of(EntryPoint("x", "a:B.C [extra]", GROUP)), Origin("x", "a:B.C"))

    def test_origin_of_a_distribution(self) -> None:
        """One of a distribution says its name and version."""
        place = Path(self.mktemp())
        info = place / "some_filters-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-filters\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\nsome-name = {HERE}:Bare\n")
        self.patch(sys, "path", [str(place), *sys.path])
        some = Registry.installed()
        self.assertIn(Origin("some-name", f"{HERE}:Bare", "some-filters", "1.2"), list(some.origins()))
