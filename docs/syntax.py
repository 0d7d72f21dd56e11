# -*- test-case-name: tests.test_syntax -*-
"""
The colours of rules files: one table of patterns, for Pygments and for editors.

`RulesLexer` colours the documentation. `textmate` is a TextMate grammar, which VS Code, Sublime Text and
others read; `toml_schema` is a JSON schema of the TOML forms, for editors that complete by schemas.
`docs.generate` writes both into ``editors/``. They know the shape of a line, and not what
is allowed in it: ``portfwd check`` judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Text, _TokenType

from portfwd.rules.grammars.realm import ENDPOINTS, NUMBERS, POINTLESS, SWITCHES
from portfwd.rules.options import BY_NAME

#: First words of lines that are no rule.
DIRECTIVES: Final = (
    "admin",
    "default",
    "etcd",
    "include",
    "k8s",
    "log",
    "logcommon",
    "logfile",
    "manhole",
    "metrics",
    "pidlogfile",
    "resolver",
    "stats-log",
    "status-file",
    "toxiproxy",
    "web",
)


@frozen
class Pattern:
    """
    What one kind of word looks like.

    :ivar regex: for both, with what Python's ``re`` and Oniguruma have in common.
    :ivar token: Pygments'.
    :ivar scope: TextMate's.
    """

    regex: str
    token: _TokenType
    scope: str


#: The first that fits is taken.
PATTERNS: Final[Sequence[Pattern]] = (
    Pattern(r"(?:^|(?<=\s))#[^\n]*", Comment.Single, "comment.line.number-sign"),
    Pattern(r'"(?:[^"\\\n]|\\.)*"', String, "string.quoted.double"),
    Pattern(r"->", Operator, "keyword.operator.arrow"),
    Pattern(rf"^(?:{'|'.join(DIRECTIVES)})\b(?![\w.-]*:\s)", Keyword, "keyword.control.directive"),
    Pattern(r"^[ \t]*(?:allow|deny)\b(?!:)", Keyword, "keyword.control.access"),
    Pattern(r"^[ \t]+(?:filter|route|target|check)\b", Keyword.Reserved, "keyword.control.clause"),
    Pattern(r"^[\w.-]+(?=:(?:[ \t]|$))", Name.Label, "entity.name.label"),
    Pattern(
        r"(?<![\w.-])(?:unix|unix-dgram|tls|endpoint|systemd|systemd-dgram|srv|file|etcd|k8s)(?=:)",
        Name.Builtin,
        "support.type.address",
    ),
    Pattern(r"(?<![\w.-])[a-z][a-z0-9-]*(?==)", Name.Attribute, "variable.parameter.option"),
    Pattern(r"=", Operator, "keyword.operator.assignment"),
    Pattern(
        r"(?<![\w.-])\d+(?:\.\d+)?(?:ms|s|m|h|d|%|[KMG]i?B(?:/s)?|[KMG]bit/s)?(?![\w.])",
        Number,
        "constant.numeric",
    ),
    Pattern(r"(?<=\d)/(?:udp|tcp)\b", Keyword.Type, "storage.type.protocol"),
)


class RulesLexer(RegexLexer):
    """Pygments' lexer of the native grammar, which takes rinetd's lines as well."""

    name = "portfwd rules"
    aliases = ("portfwd",)
    filenames = ("portfwd.conf", "rules.conf")
    # Words that no pattern fits are taken whole, so that none of a pattern is found in the middle.
    tokens = {  # noqa: RUF012 - Pygments reads a plain dict
        "root": [
            *((one.regex, one.token) for one in PATTERNS),
            (r"[ \t]+", Text.Whitespace),
            (r"\n", Text.Whitespace),
            (r"[\w.-]+", Text),
            (r".", Text),
        ]
    }


def textmate() -> dict[str, Any]:
    """The TextMate grammar."""
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "portfwd rules",
        "scopeName": "source.portfwd",
        "fileTypes": ["portfwd"],
        "patterns": [{"match": one.regex, "name": f"{one.scope}.portfwd"} for one in PATTERNS],
    }


WORD: Final = {"type": "string"}
NUMBER: Final = {"type": ["integer", "string"]}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """The schema of a table with these keys and no others."""
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**made, "required": list(required)} if required else made


def toml_schema() -> dict[str, Any]:
    """A schema of the TOML forms, and of realm's JSON: with ``endpoints`` realm's keys, else oxidinetd's."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rules of portfwd in oxidinetd's or realm's form",
        "type": "object",
        "if": {"required": [ENDPOINTS], "not": {"required": ["forwarding_rules"]}},
        "then": _realm(),
        "else": _oxidinetd(),
    }


def _oxidinetd() -> dict[str, Any]:
    """oxidinetd's keys, and portfwd's options in a rule."""
    access = _object({"type": {"enum": ["allow", "deny"]}, "pattern": WORD}, "type", "pattern")
    rule: dict[str, Any] = {
        "bind_address": WORD,
        "bind_port": NUMBER,
        "connect_address": WORD,
        "connect_port": NUMBER,
        "protocol": {"enum": ["tcp", "udp", "udptotcp", "tcptoudp"]},
        "timeout": NUMBER,
        "source_address": WORD,
        "name": WORD,
        "rules": {"type": "array", "items": access},
        "check": {
            "type": ["string", "array"],
            "items": WORD,
            "description": "whether the target is fit: what follows the word check in a native rule",
        },
    }
    for name, option in sorted(BY_NAME.items()):
        for key in sorted({name, name.replace("-", "_")}):
            rule.setdefault(
                key, {"type": ["string", "integer", "number", "boolean"], "description": option.about}
            )
    return _object(
        {
            "log_file": WORD,
            "pid_file": WORD,
            "log_format": {"enum": ["rinetd", "common"]},
            "global_rules": {"type": "array", "items": access},
            "forwarding_rules": {"type": "array", "items": _object(rule)},
        }
    )


def _realm() -> dict[str, Any]:
    """realm's keys; those without a meaning here may stand there."""
    count = {"type": "integer", "minimum": 0}
    network = _object(
        {
            **{key: {"type": "boolean"} for key in sorted(SWITCHES | POINTLESS.keys())},
            **dict.fromkeys(sorted(NUMBERS), count),
        }
    )
    endpoint = {
        "listen": WORD,
        "remote": WORD,
        "extra_remotes": {"type": "array", "items": WORD},
        "balance": WORD,
        "through": WORD,
        "network": network,
    }
    return _object(
        {
            "log": {"type": "object"},
            "dns": {"type": "object"},
            "network": network,
            ENDPOINTS: {"type": "array", "items": _object(endpoint, "listen", "remote")},
        },
        ENDPOINTS,
    )


def files() -> Iterator[tuple[str, str]]:
    """What is in ``editors/``: names and texts."""
    for name, value in (
        ("portfwd.tmLanguage.json", textmate()),
        ("portfwd-toml.schema.json", toml_schema()),
    ):
        yield name, json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write(root: Path) -> Iterator[Path]:
    """Write the files that are not current."""
    for name, text in files():
        path = root / "editors" / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            yield path
