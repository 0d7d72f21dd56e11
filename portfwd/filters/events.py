# -*- test-case-name: tests.filters.chain.test_events -*-
"""A table of the methods of filters: the meaning of a verdict, and what an `Await` pauses."""

from __future__ import annotations

from typing import Final, NamedTuple


class FilterEvent(NamedTuple):
    """
    One method of a filter.

    :ivar call: the method with its arguments.
    :ivar when: when it is called.
    :ivar judges: the bytes that its verdict is about.
    :ivar onward: destination of `bytes` and `Forward`.
    :ivar back: destination of `Reply`.
    :ivar pauses: the directions that an `Await` without `directions` pauses.
    """

    call: str
    when: str
    judges: str
    onward: str
    back: str
    pauses: str


_AS_BEFORE: Final = "as of the event that returned it"

EVENTS: Final = (
    FilterEvent(
        "opened(connection)",
        "the client is accepted, and known",
        "none",
        "to the upstream, once it is there",
        "to the client",
        "both directions",
    ),
    FilterEvent(
        "received(direction, data)",
        "bytes came",
        "`data`: what was held, and the new bytes",
        "in `direction`",
        "against `direction`",
        "`direction`",
    ),
    FilterEvent(
        "connected(upstream)",
        "the dial succeeded",
        "none",
        "to the upstream",
        "to the client",
        "both directions",
    ),
    FilterEvent(
        "dial_failed(reason)",
        "every target failed; the session ends after the verdict",
        "none",
        "nowhere",
        "to the client",
        "nothing: the session ends",
    ),
    FilterEvent(
        "ended(direction, held)",
        "the source of `direction` has ended it",
        "`held`",
        "in `direction`, before the end",
        "against `direction`",
        "the end",
    ),
    FilterEvent(
        "resumed(result)",
        "what an `Await` waited for is there",
        "the bytes that the `Await` kept",
        _AS_BEFORE,
        _AS_BEFORE,
        "the direction of that event; to-upstream for one of both",
    ),
    FilterEvent(
        "failed(error)",
        "what an `Await` waited for raised, or took too long",
        "the bytes that the `Await` kept",
        _AS_BEFORE,
        _AS_BEFORE,
        "the direction of that event; to-upstream for one of both",
    ),
    FilterEvent(
        "woken(token)",
        "a `Wake` came due, or `connection.wake` was called",
        "none",
        f"{_AS_BEFORE}; to the upstream after `connection.wake`",
        f"{_AS_BEFORE}; to the client after `connection.wake`",
        "the direction of that event",
    ),
    FilterEvent(
        "closed(summary)", "the session is over", "none", "nowhere: it returns nothing", "nowhere", "nothing"
    ),
)
