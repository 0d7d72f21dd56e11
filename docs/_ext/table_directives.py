"""
Directives for the tables in `tables`: a page writes ``{close-reasons}`` where one should stand.

The table's Markdown is parsed as if the page held it. This module makes no text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import tables
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def directive(make: Callable[[str], str], words: int) -> type[SphinxDirective]:
    """A directive without content that puts the Markdown of `make` in its place; it takes `words` words."""

    class Table(SphinxDirective):
        required_arguments: ClassVar[int] = words

        def run(self) -> list[nodes.Node]:
            return self.parse_text_to_nodes(make(*self.arguments or ("",)))

    return Table


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx the directives; called by Sphinx."""
    for name, make, words in (
        ("close-reasons", tables.close_reasons, 0),
        ("command-help", tables.command_help, 1),
        ("control-commands", tables.control_commands, 0),
        ("diagnostic-codes", tables.diagnostic_codes, 0),
        ("filter-options", tables.filter_options, 1),
        ("filters", tables.filters, 0),
        ("metric-names", tables.metric_names, 0),
        ("not-yet", tables.not_yet, 0),
        ("rule-options", tables.rule_options, 1),
        ("session-states", tables.session_states, 0),
    ):
        app.add_directive(name, directive(make, words))
    return {"parallel_read_safe": True}
