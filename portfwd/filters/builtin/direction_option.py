# -*- test-case-name: tests.filters.builtin.test_direction_option -*-
"""
``direction=to-upstream|to-client|both``: how built-in filters say which bytes they are for.

``to-upstream`` is what the client sends, ``to-client`` what the upstream sends; ``up`` and ``down`` are short
for them. It keeps the words in one place and does nothing else.
"""

from __future__ import annotations

from typing import Final

from portfwd.filters.option_kinds import OptionKind, choice
from portfwd.values import DIRECTION_WORDS, TO_CLIENT, TO_UPSTREAM, Direction, direction_word

#: The sign of each direction in lines for people: away from the client, and back to it.
ARROWS: Final[dict[Direction, str]] = {TO_UPSTREAM: ">", TO_CLIENT: "<"}

#: What the option is for.
HELP: Final = "Whose bytes: those of the client go to-upstream."


def direction() -> OptionKind[str]:
    """The kind of the option's value."""
    return choice(*DIRECTION_WORDS, spelled=direction_word)


def directions_of(word: str) -> frozenset[Direction]:
    """
    The directions that a word stands for.

    :raises ValueError: it is none of `DIRECTION_WORDS`, or short for one.
    """
    try:
        return DIRECTION_WORDS[direction_word(word)]
    except KeyError:
        raise ValueError(f"a direction is one of {', '.join(DIRECTION_WORDS)}") from None
