"""Tests of the wording of all messages, by reading the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import portfwd

ROOT = Path(portfwd.__file__).parent
#: What messages count. Seconds are not among them: they are seldom whole.
NOUNS = (
    "bytes|certificates|characters|clients|connections|datagrams|descriptors|dials|directories|entries|errors"
    "|files|labels|lines|listeners|modules|packets|pieces|ports|reloads|rules|sessions|targets"
    "|warnings|weights|words"
)
AFTER = re.compile(rf" (?:more |open |other )?(?:{NOUNS})\b")
#: Names of limits, which are never one.
LIMIT = re.compile(r"[A-Z_]+$|limit$|most")
FIELD = re.compile(rf"\{{\w+\}} (?:more |open |other )?(?:{NOUNS})\b")


class Uncounted(ast.NodeVisitor):
    """Finds texts in which a number stands before a plural; a `repr` is for developers, and is let off."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Look into it."""
        if node.name != "__repr__":
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """An f-string: a field, and the words behind it."""
        for field, behind in zip(node.values, node.values[1:], strict=False):
            if not isinstance(field, ast.FormattedValue) or not isinstance(behind, ast.Constant):
                continue
            if isinstance(field.value, ast.Name) and LIMIT.match(field.value.id):
                continue
            if AFTER.match(str(behind.value)):
                self.lines.append(node.lineno)

    def visit_Constant(self, node: ast.Constant) -> None:
        """A format of the log."""
        if isinstance(node.value, str) and FIELD.search(node.value) and "\n" not in node.value:
            self.lines.append(node.lineno)


def uncounted(source: str) -> list[int]:
    """The lines of `source` with such texts."""
    finder = Uncounted()
    finder.visit(ast.parse(source))
    return finder.lines


def sources() -> Iterator[Path]:
    """Every module of the package."""
    return ROOT.rglob("*.py")


class PluralTests(SynchronousTestCase):
    """Singular and plural."""

    def test_finder(self) -> None:
        """It finds both forms, and lets a `repr` and `counted` be."""
        self.assertEqual(uncounted('f"{n} bytes"\nlog("{count} open sessions")\n'), [1, 2])
        self.assertEqual(uncounted("def __repr__(self):\n    return f'<A {n} rules>'\n"), [])
        self.assertEqual(uncounted('f"{counted(n, \'byte\')} came"\nf"at most {MOST} bytes"\n'), [])

    def test_messages(self) -> None:
        """What is counted goes through `portfwd.values.counted`: there is no "1 bytes"."""
        found = [
            f"{path.relative_to(ROOT)}:{line}"
            for path in sources()
            for line in uncounted(path.read_text(encoding="utf-8"))
        ]
        self.assertEqual(found, [])
