# -*- test-case-name: tests.filters.builtin.test_direction_option -*-
"""
The option ``direction=to-upstream|to-client|both`` of built-in filters.

``to-upstream`` means the bytes of the client, ``to-client`` those of the upstream; ``up`` and ``down`` are
short forms.
"""

from __future__ import annotations

from typing import Final

from portfwd.filters.option_kinds import OptionKind, choice
from portfwd.values import DIRECTION_WORDS, TO_CLIENT, TO_UPSTREAM, Direction, direction_word

#: The sign of each direction in lines for people.
ARROWS: Final[dict[Direction, str]] = {TO_UPSTREAM: ">", TO_CLIENT: "<"}

#: Help of the option.
HELP: Final = "Whose bytes: those of the client go to-upstream."


def direction() -> OptionKind[str]:
    """The kind of the option's value."""
    return choice(*DIRECTION_WORDS, spelled=direction_word)


def directions_of(word: str) -> frozenset[Direction]:
    """
    The directions that a word means.

    :raises ValueError: it is neither one of `DIRECTION_WORDS` nor a short form.
    """
    try:
        return DIRECTION_WORDS[direction_word(word)]
    except KeyError:
        raise ValueError(f"a direction is one of {', '.join(DIRECTION_WORDS)}") from None
