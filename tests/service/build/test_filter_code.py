"""Tests of `portfwd.service.build.filter_code`: changed code of ``python:`` filters, for new sessions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from portfwd.service.build.filter_code import FilterCode
from tests.service.run.test_reload import ReloadCase

FILTER = """
from portfwd.filters import Close, Filter
from {package}words import WORD

class Greeting(Filter):
    def received(self, direction, data):
        return Close("greeted", reply=WORD + b"{mark}")
"""


class CodeTests(ReloadCase):
    """`Forwarder.reload` with code."""

    def setUp(self) -> Any:
        self.directory = Path(self.mktemp())
        self.package = f"pkg{os.getpid()}_{self.id().rpartition('.')[2]}"
        folder = self.directory / self.package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        self.write("one")
        sys.path.insert(0, str(self.directory))
        self.addCleanup(sys.path.remove, str(self.directory))
        self.addCleanup(self.forget)
        self.rule = f"a: 127.0.0.1:0 -> {{}}\n    filter python:{self.package}.greeting.Greeting\n"
        return super().setUp()

    def forget(self) -> None:
        """No module of the test stays."""
        for name in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            del sys.modules[name]

    def write(self, word: str, mark: str = "") -> None:
        """The package's modules say this."""
        folder = self.directory / self.package
        (folder / "words.py").write_text(f"WORD = b{word!r}\n")
        (folder / "greeting.py").write_text(FILTER.format(package=f"{self.package}.", mark=mark))

    async def said(self, forwarder: Any) -> bytes:
        """What a new session is told."""

        def ask() -> bytes:
            with self.connect(forwarder) as client:
                client.sendall(b"hello")
                return client.recv(100)

        return await self.in_thread(ask)

    async def test_reload(self) -> None:
        """Changed code, of the module or of its package, is there for new sessions; only if asked for."""
        rule = self.rule.format(self.target)
        forwarder = self.started(rule)
        first = forwarder.rules[0].filters[0][1]
        self.assertEqual(await self.said(forwarder), b"one")
        self.write("two")
        await self.applied(forwarder, rule)
        self.assertEqual(await self.said(forwarder), b"one")
        result = await self.applied(forwarder, rule, code=True)
        self.assertEqual(result.notes, (f"the module {self.package}.greeting was imported again",))
        self.assertEqual(await self.said(forwarder), b"two")
        self.write("two", "!")
        await self.applied(forwarder, rule, code=True)
        self.assertEqual(await self.said(forwarder), b"two!")
        self.assertIsNot(forwarder.rules[0].filters[0][1], first)

    async def test_unchanged(self) -> None:
        """What has not changed is not imported again, and its factory stays."""
        rule = self.rule.format(self.target)
        forwarder = self.started(rule)
        before = forwarder.rules[0].filters[0][1]
        result = await self.applied(forwarder, rule, code=True)
        self.assertEqual(result.notes, ())
        self.assertIs(forwarder.rules[0].filters[0][1], before)

    async def test_mistakes(self) -> None:
        """Code that cannot be imported refuses the reload; the old code stays, also in ``sys.modules``."""
        rule = self.rule.format(self.target)
        forwarder = self.started(rule)
        before = sys.modules[f"{self.package}.greeting"]
        (self.directory / self.package / "greeting.py").write_text("nonsense nonsense\n")
        result = await self.reload(forwarder, rule, code=True)
        self.assertIn(f"{self.package}.greeting cannot be imported again: SyntaxError", result.failures[0])
        self.assertIs(sys.modules[f"{self.package}.greeting"], before)
        self.assertEqual(await self.said(forwarder), b"one")
        self.write("three")
        await self.applied(forwarder, rule, code=True)
        self.assertEqual(await self.said(forwarder), b"three")

    async def test_refused_otherwise(self) -> None:
        """A reload that is refused for another reason leaves the old code, and so does a dry run."""
        rule = self.rule.format(self.target)
        forwarder = self.started(rule)
        before = sys.modules[f"{self.package}.greeting"]
        self.write("two")
        result = await self.reload(forwarder, f"{rule}b: 127.0.0.1:0 -> tls:h:1 ca=/nowhere\n", code=True)
        self.assertNotEqual(result.failures, ())
        await self.reload(forwarder, rule, dry_run=True, code=True)
        self.assertIs(sys.modules[f"{self.package}.greeting"], before)
        await self.applied(forwarder, rule, code=True)
        self.assertEqual(await self.said(forwarder), b"two")

    def test_own(self) -> None:
        """portfwd's own modules are never imported again."""
        code = FilterCode()
        change = code.import_again(["portfwd.filters.builtin.hexdump"])
        self.assertEqual((change.modules, change.problem), ([], ""))
        self.assertEqual(repr(code), "<FilterCode of 0 modules>")
        self.assertEqual(repr(change), "<CodeChange nothing>")
