# -*- test-case-name: tests.rules -*-
"""
Text to rules: what may be written in a rules file, in each of its grammars.

Pure: files are read through the `Files` that the caller hands in. The way of a
file: `tokens` cut lines into words; `native`, `rinetd`, `clauses`, `directives`,
`rinetd_directives`, `include` and `toml` read them into a `draft`; `whole` checks
what only all rules show; `render` writes the values back. `support` knows what
parses but does not work yet.
"""

from portfwd.rules.diagnostics import format_problem, problem_to_json
from portfwd.rules.load import combine, load, parse, parse_json, parse_rule, parse_toml, parse_yaml
from portfwd.rules.queries.render import render
from portfwd.rules.reading import Files
from portfwd.rules.support import everything_wrong, unsupported

__all__ = [
    "Files",
    "combine",
    "everything_wrong",
    "format_problem",
    "load",
    "parse",
    "parse_json",
    "parse_rule",
    "parse_toml",
    "parse_yaml",
    "problem_to_json",
    "render",
    "unsupported",
]
