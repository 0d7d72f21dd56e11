# -*- test-case-name: tests.test_docs_api -*-
"""
Docstrings as Markdown: reStructuredText of the kind that this repository writes.

It knows paragraphs, bullets, literal blocks, examples of the Python prompt, ``literals``, `references`, and
fields such as ``:param NAME:``. Other markup passes unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_FIELD = re.compile(r"^:(?P<kind>\w+)(?: (?P<name>[^:]+))?:\s*(?P<text>.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_LITERAL = re.compile(r"``(?P<literal>.+?)``|`(?P<reference>[^`]+?)`", re.DOTALL)


def markdown(text: str, links: Callable[[str], str | None], heading: str = "") -> str:
    """
    A docstring, without its indentation, as Markdown.

    :param links: where a reference is described; None: it becomes code without a link.
    :param heading: a line above the list of arguments or attributes.
    """
    fields = list(_FIELD.finditer(text))
    prose = text[: fields[0].start()] if fields else text
    parts = [_block(part, links) for part in _blocks(prose)]
    parts += _fields(fields, links, heading)
    return "\n\n".join(part for part in parts if part)


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs; what is indented behind a ``::`` is one block, with its empty lines."""
    literal: list[str] = []
    for part in re.split(r"\n\s*\n", text.strip("\n")):
        if part.startswith("    ") and literal:
            literal.append(part)
            continue
        if len(literal) > 1:
            yield "\n\n".join(literal[1:])
        literal = ["::"] if part.rstrip().endswith("::") else []
        yield re.sub(r"\s*::$", ":", part.rstrip()) if part.strip() != "::" else ""
    if len(literal) > 1:
        yield "\n\n".join(literal[1:])


def _block(part: str, links: Callable[[str], str | None]) -> str:
    if part.startswith("    "):
        lines = (line.removeprefix("    ") for line in part.splitlines())
        return "```python\n" + "\n".join(lines) + "\n```"
    if part.startswith(">>>"):
        return f"```pycon\n{part}\n```"
    if part.startswith("- "):
        return "\n".join(_inline(line, links) for line in part.splitlines())
    return _inline(" ".join(part.split()), links)


def _fields(fields: list[re.Match[str]], links: Callable[[str], str | None], heading: str) -> Iterator[str]:
    """Arguments and attributes as a list, then what is returned and raised."""
    named, rest = [], []
    for one in fields:
        said = _inline(" ".join(one["text"].split()), links)
        if one["kind"] == "raises":
            error = _inline(f"`{one['name']}`", links)
            rest.append(f"Raises {error}: {said}")
        elif one["kind"] in ("returns", "return"):
            rest.append(f"Returns: {said}")
        else:
            named.append(f"- `{one['name']}`: {said}")
    if named and heading:
        yield heading
    yield "\n".join(named)
    yield from rest


def _inline(text: str, links: Callable[[str], str | None]) -> str:
    """Literals and references of one paragraph."""

    def code(match: re.Match[str]) -> str:
        if match["literal"]:
            ticks = "``" if "`" in match["literal"] else "`"
            return f"{ticks}{match['literal']}{ticks}"
        link = links(match["reference"])
        short = re.sub(r"^portfwd\.(?:\w+\.)*(?=\w+$)", "", match["reference"])
        return f"[`{short}`]({link})" if link else f"`{match['reference']}`"

    return _LITERAL.sub(code, text)
