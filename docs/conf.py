"""
How the documentation is built: ``sphinx-build -W docs docs/_build/html``.

Markdown by MyST, no network, and a warning is an error. Listings and tables stand
in the pages; ``python -m docs.generate`` writes them there.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import portfwd  # noqa: E402 - from this tree, whose path was set just now
from docs.syntax import RulesLexer  # noqa: E402

project = "portfwd"
author = "The portfwd developers"
copyright = f"2026, {author}"
release = version = portfwd.__version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nitpicky = True


def setup(app: object) -> None:
    """Have Pygments colour rules files."""
    app.add_lexer("portfwd", RulesLexer)  # type: ignore[attr-defined]


html_theme = "furo"
html_title = "portfwd"
html_copy_source = False
