# -*- test-case-name: tests.filters.builtin.test_direction_option -*-
"""
``direction=up|down|both``: how built-in filters say which bytes they are for.

``up`` is what the client sends, ``down`` what the upstream sends. It keeps the
words in one place and does nothing else.
"""

from __future__ import annotations

from typing import Final

from portfwd.filters.api import BOTH
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

#: What the option may say, and the directions that it stands for.
WAYS: Final[dict[str, frozenset[Direction]]] = {
    "up": frozenset({TO_UPSTREAM}),
    "down": frozenset({TO_CLIENT}),
    "both": BOTH,
}

#: The sign of each direction in lines for people: away from the client, and back to it.
ARROWS: Final[dict[Direction, str]] = {TO_UPSTREAM: ">", TO_CLIENT: "<"}


def directions_of(way: str) -> frozenset[Direction]:
    """
    The directions that a word stands for.

    :raises ValueError: it is none of `WAYS`.
    """
    try:
        return WAYS[way]
    except KeyError:
        raise ValueError(f"a direction is one of {', '.join(WAYS)}") from None
