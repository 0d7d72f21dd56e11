# -*- test-case-name: tests.rules.test_slips -*-
"""
Finds the single mistake that explains the errors of a line.

`find_slip` is called only for lines with errors, so a correct file costs nothing. It recognises other
spellings of the arrow, a second arrow, a name without its colon, options on a line of their own, and the
comments, files and command lines of other programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from portfwd.errors import Problem
from portfwd.rules.options import BY_NAME
from portfwd.rules.tokens import NAME, Line, Word

#: Other spellings of the arrow, including those of text processors.
ARROWS: Final = (
    "=>",
    "-->",
    "==>",
    "\u2192",
    "\u21d2",
    "\u27f6",
    "\u2794",
    "\u2013>",
    "\u2014>",
    "\u2212>",
    ">",
)
#: First lines of configurations of other programs, in forms that cannot start a rules file.
_FOREIGN: Final = (
    (
        "HAProxy",
        re.compile(r"(?:global|defaults|(?:listen|frontend|backend)(?:\s+[\w.-]+)?)\s*(?:#.*)?", re.ASCII),
    ),
    (
        "nginx",
        re.compile(
            r"(?:stream|http|events|server|upstream\s+\S+|map\s+\S+\s+\S+)\s*\{.*"
            r"|(?:user|worker_\w+|load_module|pid|error_log)\s.*;\s*(?:#.*)?",
            re.ASCII,
        ),
    ),
    ("JSON", re.compile(r"\{\s*(?:\".*)?")),
    ("YAML", re.compile(r"(?:---|[A-Za-z][\w-]*:)\s*(?:#.*)?", re.ASCII)),
    ("TOML", re.compile(r"(?:\[\[?[A-Za-z][\w.-]*\]\]?|[A-Za-z]\w*\s+=\s+\S.*)", re.ASCII)),
)
#: The page of the documentation for users of socat, HAProxy and nginx.
PAGE: Final = "docs/how-to/from-socat-haproxy-nginx.md"
_INSTEAD: Final = {
    "HAProxy": f"'portfwd convert' does not read it: {PAGE} has the rule for each line",
    "nginx": f"'portfwd convert' does not read it: {PAGE} has the rule for each line",
    "TOML": "give the file a name that ends in .toml",
    "YAML": "give the file a name that ends in .yaml if it is rinetd-uv's",
}
#: First words of lines beneath a rule. A ``->`` in such a line is not the arrow of a rule.
_CLAUSES: Final = frozenset({"allow", "check", "deny", "filter", "route", "target"})
#: Addresses of socat, whose types may have any case. ``tcp:HOST:PORT`` alone is an address of portfwd too.
_SOCAT = re.compile(
    r"(?:(?:TCP|UDP|SCTP|OPENSSL|SSL|UNIX|ABSTRACT|VSOCK)[46]?-(?:LISTEN|L|CONNECT|RECV|RECVFROM|SENDTO|DATAGRAM)"
    r"|(?:TCP|UDP)[46]|OPENSSL|SSL|EXEC|SYSTEM|PTY|GOPEN|SOCKS4A?|PROXY):.*"
    r"|(?:TCP|UDP):[^:]+:\w+,.*",
    re.ASCII | re.IGNORECASE,
)
_PORT = re.compile(r"\d{1,5}(?:/(?:tcp|udp))?", re.ASCII)
_LONGEST_HINT: Final = 100


@frozen
class Slip:
    """
    One mistake.

    :ivar columns: columns of the errors that follow from it.
    :ivar whole_file: whether the rest of the file cannot be read either.
    """

    problem: Problem
    columns: range
    whole_file: bool = False


def find_slip(line: Line, words: list[Word], first: bool) -> Slip | None:
    """
    Find the mistake that explains the errors of `line`; None if no single one is known.

    :param first: whether no rule precedes this line in its file.
    """
    if first:
        for program, shape in _FOREIGN:
            if shape.fullmatch(line.text.strip()):
                return _foreign(line, words, program)
    for find in (_comment, _socat, _arrow, _second_arrow, _name, _option, _equals, _listen_address):
        slip = find(line, words)
        if slip is not None:
            return slip
    return None


def _whole(line: Line) -> range:
    return range(1, len(line.text) + 2)


def _foreign(line: Line, words: list[Word], program: str) -> Slip:
    kind = "is a configuration of" if program in {"HAProxy", "nginx"} else "is"
    hint = _INSTEAD.get(program, "a rule is one line such as 'web: :8080 -> 10.0.0.5:80'")
    message = f"it looks as if this file {kind} {program}"
    return Slip(Problem(line.at(words[0]), "foreign-format", message, hint), _whole(line), whole_file=True)


def _comment(line: Line, words: list[Word]) -> Slip | None:
    for word in words:
        if word.quoted:
            continue
        if word.text.startswith("//"):
            message, hint = "'//' begins no comment", "write # before a comment"
        elif word.text.startswith(";"):
            message, hint = "';' has no meaning here", "delete it, or write # before a comment"
        else:
            continue
        columns = range(word.column, len(line.text) + 2)
        return Slip(Problem(line.at(word), "unexpected-word", message, hint), columns)
    last = words[-1]
    if last.text.endswith(";") and not last.quoted:
        where = line.span(last.column + last.length - 1, 1)
        columns = range(last.column, len(line.text) + 2)
        return Slip(Problem(where, "unexpected-word", "';' ends no line here", "delete it"), columns)
    return None


def _socat(line: Line, words: list[Word]) -> Slip | None:
    """A command line of socat, or one of its addresses in a rule."""
    for word in words:
        if not word.quoted and (_SOCAT.fullmatch(word.text) or (word is words[0] and word.text == "socat")):
            message, hint = "this is an address of socat", f"{PAGE} has the rule for each of them"
            if word.text == "socat":
                message = "this is a command of socat"
            return Slip(Problem(line.at(word), "bad-rule", message, hint), _whole(line))
    return None


def _arrow(line: Line, words: list[Word]) -> Slip | None:
    if any(word.text == "->" and not word.quoted for word in words):
        return None
    for word, start, length, found in _arrows(words):
        column = word.column + start
        fixed = f"{line.text[: column - 1].strip()} -> {line.text[column - 1 + length :].strip()}"
        if found == "->":
            message, hint = "there is no blank on both sides of this arrow", f"write {fixed}"
        else:
            message, hint = f"'{found}' is not the arrow of a rule", f"write {fixed}"
        if len(hint) > _LONGEST_HINT:
            hint = "write '->' between blanks"
        return Slip(Problem(line.span(column, length), "bad-arrow", message, hint), _whole(line))
    return None


def _arrows(words: list[Word]) -> Iterator[tuple[Word, int, int, str]]:
    """Iterate over words that contain an arrow: the word, the arrow's position and length, and the arrow."""
    for word in words[1:]:
        if not word.quoted and word.text in ARROWS:
            yield word, 0, word.length, word.text
    for word in words:
        bare = word.text[: word.bare]
        for arrow in ("->", *ARROWS):
            position = bare.find(arrow)
            if position >= 0 and bare not in ARROWS:
                yield word, position, len(arrow), arrow


def _second_arrow(line: Line, words: list[Word]) -> Slip | None:
    """Two arrows on a line: a chain, or several targets."""
    arrows = [word for word in words if word.text == "->" and not word.quoted]
    if len(arrows) < 2 or words[0].text in _CLAUSES:
        return None
    columns = range(arrows[1].column, len(line.text) + 2)
    message, hint = "a rule has one arrow", "write commas between targets that are tried in order"
    return Slip(Problem(line.at(arrows[1]), "bad-arrow", message, hint), columns)


def _name(line: Line, words: list[Word]) -> Slip | None:
    """A name without its colon: ``web :8080 -> a:1``."""
    first = words[0]
    plain = not any(word.quoted for word in words[:3])
    if len(words) < 4 or not plain or not NAME.fullmatch(first.text) or first.text in _CLAUSES:
        return None
    if words[2].text != "->" and words[2].option() is None:
        return None
    if all(word.text != "->" for word in words):
        return None  # a directive
    if ":" not in words[1].text or words[1].option() is not None:
        return None
    hint = f"write {first.text}: {line.text[words[1].column - 1 :].strip()}"
    if len(hint) > _LONGEST_HINT:
        hint = f"write {first.text}:"
    columns = range(first.column, words[2].column)
    return Slip(Problem(line.at(first), "bad-name", "a colon is missing after this name", hint), columns)


def _option(line: Line, words: list[Word]) -> Slip | None:
    """Options on a line of their own, indented or not."""
    first = words[0].option()
    if first is None or words[0].quoted or first[0] not in BY_NAME:
        return None
    hint = f"put it on the rule's line, or write default {line.text.strip()} above the rules that it is for"
    if len(hint) > _LONGEST_HINT:
        hint = "put it on the rule's line, or write default before it, above the rules that it is for"
    return Slip(Problem(line.at(words[0]), "bad-rule", "an option stands alone", hint), _whole(line))


def _equals(line: Line, words: list[Word]) -> Slip | None:
    """Blanks around the ``=`` of an option. Lines with rinetd's brackets are skipped, which allow them."""
    for index, word in enumerate(words[1:], 1):
        text = word.text
        if word.quoted or "=" not in text or "[" in line.text[: word.column]:
            continue
        parts = words[index - 1 : index + 1] if text.startswith("=") else [word]
        if text.endswith("="):
            parts += words[index + 1 : index + 2]
        key, _, value = "".join(part.text for part in parts).partition("=")
        if len(parts) == 1 or "=" in value or not NAME.fullmatch(key):
            continue
        last = parts[-1]
        columns = range(parts[0].column, last.column + last.length)
        where = line.span(columns.start, len(columns))
        message, hint = "blanks stand beside this '='", f"write {key}={value}"
        return Slip(Problem(where, "unexpected-word", message, hint), columns)
    return None


def _listen_address(line: Line, words: list[Word]) -> Slip | None:
    """A rule of rinetd's grammar without its first address: ``PORT HOST PORT``."""
    plain = [word.text for word in words]
    if "[" in plain[-1]:
        plain = plain[: next(index for index, text in enumerate(plain) if "[" in text)]
    if len(plain) != 3 or not _PORT.fullmatch(plain[0]) or not _PORT.fullmatch(plain[2]):
        return None
    hint = f"write 0.0.0.0 {' '.join(plain)}"
    message = "the address to listen on is missing before this port"
    return Slip(Problem(line.at(words[0]), "bad-rule", message, hint), _whole(line))
