# -*- test-case-name: tests.rules.grammars.test_yaml -*-
"""
Parses a YAML file into mappings, lists and texts with their lines and columns.

PyYAML (extra ``yaml``) splits the text into events. Values stay texts, and tags create no objects. Aliases
are refused, as they are ignored by rinetd-uv, so no node is larger than its text. Nesting deeper than
`MAX_DEPTH` is refused.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from portfwd.errors import Location
from portfwd.extras import how_to_install
from portfwd.rules.findings import Findings, shown
from portfwd.rules.steps import Steps

#: Deepest nesting: twice that of rinetd-uv's form.
MAX_DEPTH: Final = 12


@frozen
class Text:
    """
    A scalar.

    :ivar plain: whether it is written without quotes.
    """

    value: str
    where: Location
    plain: bool

    @property
    def empty(self) -> bool:
        """Whether it is YAML's null."""
        return self.plain and self.value in {"", "~", "null"}


@frozen
class Items:
    """A list."""

    nodes: list[Node]
    where: Location


@frozen
class Mapping:
    """A mapping from keys to their places and values. Keys without a value are left out."""

    nodes: dict[str, tuple[Location, Node]]
    where: Location


Node = Text | Items | Mapping


class YamlFault(Exception):
    """An error that ends the reading of a file. It never leaves this package."""

    def __init__(self, code: str, message: str, where: Location, hint: str = "") -> None:
        super().__init__(message)
        self.problem = (where, code, message, hint)


def read_nodes(findings: Findings, name: str, text: str) -> Steps[Node | None]:
    """
    Parse the single document of a file. None if it is empty, or if it has an error, which is reported.

    A step is one event.
    """
    try:
        import yaml
    except ImportError:
        findings.error(
            Location(name),
            "yaml-not-installed",
            "PyYAML is not installed, and a YAML file is not read without it",
            f"{how_to_install('yaml')}, or write rinetd-uv's conf form in a file with another ending",
        )
        return None
    reader = _Reader(findings, name, text)
    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            reader.take(event)
            yield
    except YamlFault as fault:
        findings.error(*fault.problem)
        return None
    except yaml.MarkedYAMLError as error:
        where = Location(name) if error.problem_mark is None else reader.at(error.problem_mark)
        message = error.problem or error.context or "this is not YAML"
        findings.error(where, "yaml-syntax", "".join(c if c.isprintable() else "?" for c in message))
        return None
    except yaml.reader.ReaderError as error:
        where = reader.at_index(error.position)
        findings.error(where, "bad-character", "a character stands here that YAML does not have")
        return None
    except (ValueError, OverflowError):
        # PyYAML does not check the values of escapes and of %YAML before it converts them.
        findings.error(Location(name), "yaml-syntax", "an escape or a version in this file does not exist")
        return None
    return reader.root


class _Reader:
    """Builds the nodes from the events of one file, without recursion."""

    def __init__(self, findings: Findings, name: str, text: str) -> None:
        self._findings = findings
        self._name = name
        self._text = text
        # YAML's line breaks are those that PyYAML counts.
        for other in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
            text = text.replace(other, "\n")
        self._lines = text.split("\n")
        self._open: list[Items | Mapping] = []
        self._keys: list[Text | None] = []
        self._documents = 0
        self.root: Node | None = None

    def __repr__(self) -> str:
        return f"<_Reader {self._name} {len(self._open)} open>"

    def at(self, start: Any, end: Any = None) -> Location:
        """The place of a mark of PyYAML."""
        line = self._lines[start.line] if start.line < len(self._lines) else ""
        stop = len(line) if end is None or end.line != start.line else end.column
        length = 1 if end is None else max(1, min(stop, len(line)) - start.column)
        return Location(self._name, start.line + 1, min(start.column, len(line)) + 1, length, line)

    def at_index(self, index: int) -> Location:
        """The place of a character of the file."""
        before = self._text[:index]
        line = before.count("\n")
        text = self._text.split("\n")[line]
        return Location(self._name, line + 1, index - before.rfind("\n"), 1, text)

    def take(self, event: Any) -> None:
        """
        Take one event.

        :raises YamlFault: the rest of the file cannot be read.
        """
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._refuse_tag(event)
            self._add(Text(event.value, self.at(event.start_mark, event.end_mark), event.style is None))
        elif kind in {"MappingStartEvent", "SequenceStartEvent"}:
            self._refuse_tag(event)
            where = self.at(event.start_mark)
            if len(self._open) == MAX_DEPTH:
                raise YamlFault("yaml-syntax", "this is nested too deep", where)
            node = Mapping({}, where) if kind == "MappingStartEvent" else Items([], where)
            self._add(node)
            self._open.append(node)
            self._keys.append(None)
        elif kind in {"MappingEndEvent", "SequenceEndEvent"}:
            self._open.pop()
            self._keys.pop()
        elif kind == "AliasEvent":
            raise YamlFault(
                "yaml-syntax",
                "aliases are not read",
                self.at(event.start_mark, event.end_mark),
                "write the value here once more",
            )
        elif kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                where = self.at(event.start_mark, event.end_mark)
                raise YamlFault("yaml-syntax", "a file has one document, and this begins another", where)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag not in {None, "!"}:
            raise YamlFault("yaml-syntax", "tags are not read", self.at(event.start_mark), "delete it")

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Items):
            parent.nodes.append(node)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(node, Text):
                raise YamlFault("yaml-type", "a key is text", node.where)
            self._keys[-1] = node
            return
        self._keys[-1] = None
        if key.value in parent.nodes:
            self._findings.error(
                key.where, "duplicate-option", f"{shown(key.value)} is given twice", "delete one of the two"
            )
        elif not isinstance(node, Text) or not node.empty:
            parent.nodes[key.value] = (key.where, node)
