# -*- test-case-name: tests.rules.test_include -*-
"""
``include GLOB``: reads the files that match a pattern.

Names are relative to the including file and read in alphabetical order. Cycles, more than ten levels and more
than a thousand files are errors.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.errors import Location, Problem, RulesError
from portfwd.rules.findings import shown
from portfwd.rules.grammars.rinetd_directives import one_word
from portfwd.rules.reading import Files, FileScope, Reading
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import Line, Word
from portfwd.values import printable

#: rinetd-uv's limit. Deeper trees are usually cycles hidden by symbolic links.
MAX_DEPTH: Final = 10
#: Most files. Ten levels of a few files each could otherwise multiply.
MAX_FILES: Final = 1000

#: Characters that make a name a pattern (`glob`).
_MAGIC = re.compile(r"[*?[]")
#: Reads the lines of a text into a reading.
ReadText = Callable[[Reading, FileScope, str], Steps[None]]


def read_include(
    reading: Reading, scope: FileScope, line: Line, words: list[Word], read_text: ReadText
) -> Steps[None]:
    """Read every file that the line's pattern matches, in place."""
    scope.plain = False
    findings = reading.findings
    word = one_word(reading, line, words, "the name of a file, or a pattern")
    if word is None:
        return
    where = line.at(word)
    files = reading.files
    if files is None:
        findings.error(
            where, "include-without-files", "these rules are not read from a file and cannot include one"
        )
        return
    paths = files.glob(word.text, scope.name)
    if not paths and _MAGIC.search(word.text):
        # A directory of generated files may be empty.
        findings.warning(where, "include-no-match", f"no file matches {shown(word.text)}")
    elif not paths:
        directory = word.text.rstrip("/")
        if directory and files.glob(f"{directory}/*", scope.name):
            findings.error(
                where,
                "include-no-match",
                f"{shown(word.text)} is a directory",
                f"write include {directory}/*.conf",
            )
        else:
            findings.error(where, "include-no-match", f"there is no file {shown(word.text)}")
    for path in paths:
        normal = posixpath.normpath(path)
        if normal in scope.chain:
            findings.error(
                where,
                "include-cycle",
                f"{shown(path)} includes itself"
                + ("" if normal == scope.chain[-1] else " through other files"),
            )
        elif len(scope.chain) > MAX_DEPTH:
            findings.error(where, "include-depth", f"includes go at most {MAX_DEPTH} files deep")
        elif len(reading.paths) >= MAX_FILES:
            findings.error(where, "too-many-files", f"at most {MAX_FILES} files are read")
            return
        else:
            inner = FileScope(path, (*scope.chain, normal), scope.defaults)
            text = read_file(reading, path, where, files)
            if text is not None:
                yield from read_text(reading, inner, text)


def cannot_be_read(path: str, problems: Sequence[Problem]) -> bool:
    """Whether `problems` say that the first file, `path`, could not be read at all."""
    first = problems[0]
    return first.code == "unreadable-file" and first.location == Location(path)


def read_file(reading: Reading, path: str, where: Location, files: Files) -> str | None:
    """
    The text of a file. None if it cannot be read, which is reported.

    :param where: the place of the directive that names the file.
    """
    reading.paths.append(path)
    try:
        return files.read(path)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        reading.findings.error(where, "unreadable-file", f"{shown(path)} cannot be read: {printable(reason)}")
    except RulesError as error:
        reading.findings.extend(error.problems)
    return None
