# -*- test-case-name: tests.test_docs -*-
"""
Writes listings and tables into the pages, so that they can be read without a build.

``python -m docs.generate``, in the root of the repository, replaces three kinds of text in ``README.md`` and
``docs/**/*.md``:

- the fenced block below ``<!-- listing: FILE -->``, by the file; with ``after "A" before "B"`` behind the
  file's name, by its lines between the first with A in it and the next with B;
- what stands between ``<!-- table: NAME WORD -->`` and ``<!-- end of table -->``, by a table of `docs.tables`
  (its function NAME, with the argument WORD);
- what stands between ``<!-- api: MODULE NAME ... -->`` and ``<!-- end of api -->``, by the docstrings of
  these names (`docs.api`).

A test fails where a page is not current. It changes nothing else of a page. The command also writes
the picture of `docs.pictures`, manual pages and completions (`docs.program_files`), a dashboard
(`docs.dashboard`), colours for editors (`docs.syntax`), and the description of the web API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from docs import api, pictures, tables
from docs.dashboard import dashboard
from portfwd.admin.web.openapi import describe
from portfwd.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTION = ROOT / "docs" / "reference" / "openapi.json"
DASHBOARD = ROOT / "examples" / "grafana" / "portfwd.json"
LISTING = re.compile(
    r'^<!-- listing: (?P<file>\S+)(?: from "(?P<start>[^"]+)")?(?: after "(?P<after>[^"]+)")?'
    r'(?: before "(?P<before>[^"]+)")? -->\n(?P<ticks>`{3,})(?P<language>\w*)\n(?P<body>.*?)^(?P=ticks)$',
    re.MULTILINE | re.DOTALL,
)
TABLE = re.compile(
    r"^<!-- table: (?P<name>[\w-]+)(?: (?P<word>[\w-]+))? -->\n(?P<body>.*?)^<!-- end of table -->$",
    re.MULTILINE | re.DOTALL,
)


def pages(root: Path = ROOT) -> list[Path]:
    """The README and every page of the documentation."""
    found = sorted(path for path in (root / "docs").rglob("*.md") if "_build" not in path.parts)
    return [root / "README.md", *found]


def excerpt(text: str, start: str | None, after: str | None, before: str | None) -> str:
    """
    The lines of `text` from the first with `start` in it, or after that with `after`, to that with `before`.

    :raises ValueError: when a marker is not there.
    """
    lines = text.splitlines(keepends=True)
    if start or after:
        marker = start or after or ""
        first = _line_with(lines, marker, 0)
        lines = lines[first if start else first + 1 :]
    if before:
        lines = lines[: _line_with(lines, before, 0)]
    return "".join(lines).strip("\n") + "\n"


def _line_with(lines: list[str], marker: str, first: int) -> int:
    for number, line in enumerate(lines[first:], first):
        if marker in line:
            return number
    raise ValueError(f"there is no line with {marker!r}")


def current(text: str, root: Path = ROOT, links: api.Links = lambda reference: None) -> str:
    """
    `text` with all listings, tables and descriptions as they are now.

    :param links: where descriptions of names refer to others.

    :raises ValueError: when a listing has no such line.
    :raises OSError: when a listing is not there.
    """

    def listing(match: re.Match[str]) -> str:
        shown = (root / match["file"]).read_text()
        body = excerpt(shown, match["start"], match["after"], match["before"])
        head = match[0][: match.start("body") - match.start()]
        return f"{head}{body}{match['ticks']}"

    def table(match: re.Match[str]) -> str:
        made = getattr(tables, match["name"].replace("-", "_"))(match["word"] or "")
        head = match[0].partition("\n")[0]
        return f"{head}\n{made}\n<!-- end of table -->"

    return api.fill(TABLE.sub(table, LISTING.sub(listing, text)), links, root)


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """The pages that are not current, each with what it should be."""
    texts = {path: path.read_text() for path in pages(root)}
    for path, text in texts.items():
        wanted = current(text, root, api.page_links(texts, path, root))
        if wanted != text:
            yield path, wanted


def main() -> None:
    """Write the pages that are not current, the picture, then the files of `docs.program_files`."""
    # Again until nothing changes: pages link to names that this run has written into other pages.
    while found := list(stale()):
        for path, text in found:
            path.write_text(text)
            print(path.relative_to(ROOT))
    for path in pictures.write(ROOT):
        print(path.relative_to(ROOT))
    if not DASHBOARD.exists() or DASHBOARD.read_text() != dashboard():
        DASHBOARD.parent.mkdir(exist_ok=True)
        DASHBOARD.write_text(dashboard())
        print(DASHBOARD.relative_to(ROOT))
    text = json.dumps(describe(__version__), indent=1) + "\n"
    if not DESCRIPTION.exists() or DESCRIPTION.read_text() != text:
        DESCRIPTION.write_text(text)
        print(DESCRIPTION.relative_to(ROOT))
    try:
        from docs import program_files, syntax
    except ImportError as problem:
        print(f"share/ and editors/ are not looked at: {problem}; it is of the extra 'test' or 'docs'")
        return
    for path in (*program_files.write(ROOT / "share"), *syntax.write(ROOT)):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
