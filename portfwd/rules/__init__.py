# -*- test-case-name: tests.rules -*-
"""
Parses rules files, in each of their grammars.

Pure: files are read through the `Files` that the caller passes in. A file takes this way: `tokens` splits
lines into words; `native`, `rinetd`, `clauses`, `directives`, `rinetd_directives`, `include` and `toml` read
them into a `draft`; `whole` checks the rules together; `render` writes values back as text. `support` lists
what can be parsed but is not implemented.
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
