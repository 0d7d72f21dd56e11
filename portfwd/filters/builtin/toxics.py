# -*- test-case-name: tests.filters.builtin.test_toxics -*-
"""
Toxics, as toxiproxy's clients describe them in JSON, as options of ``filter faults``.

=============== ================================= ========================================================
type            its attributes                    the fault
=============== ================================= ========================================================
``latency``     ``latency`` ``jitter`` (ms)       ``latency``
``bandwidth``   ``rate`` (KB/s, 1000 bytes)       ``bandwidth``
``slow_close``  ``delay`` (ms)                    ``slow-close``
``timeout``     ``timeout`` (ms; 0: never closed) ``timeout``
``reset_peer``  ``timeout`` (ms)                  ``reset``
``slicer``      ``average_size`` (bytes)          ``slicer``
                ``size_variation`` ``delay`` (us)
``limit_data``  ``bytes``                         ``limit-data``
``noop``                                          ``noop``
``limit_time``  ``time`` (ms)                     ``limit-time``; not in toxiproxy, like all below
``corrupt``     ``fraction`` (0 to 1)             ``corrupt``
``refuse``                                        ``refuse``: only for new connections
``loss``        ``fraction``                      ``loss``; this and the next two for UDP
``duplicate``   ``fraction``                      ``duplicate``
``reorder``     ``fraction`` ``delay`` (ms)       ``reorder``
=============== ================================= ========================================================

``timeout``, ``limit_data`` and ``limit_time`` take ``abort`` (true or false) as well. The text of a
`BadToxic` is what clients of toxiproxy expect where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import evolve, frozen

from portfwd.filters.builtin.chance import make_seed
from portfwd.filters.builtin.fault_clause import NEEDS, FaultsOptions, check_options
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

#: The greatest number of an attribute: 31 bits, some three weeks of milliseconds.
MOST: Final = 2**31 - 1
#: Characters of a name at most: it stands in logs and answers.
MOST_NAME: Final = 200

_STREAMS: Final = {"downstream": TO_CLIENT, "upstream": TO_UPSTREAM}


class BadToxic(ValueError):
    """What a client says is no toxic; the text says why."""


@frozen
class Attribute:
    """
    One attribute of a toxic.

    :ivar field: of `FaultsOptions`.
    :ivar factor: the field's value is the attribute's times this.
    :ivar kind: the type of its value.
    :ivar is_ours: toxiproxy does not know it, so it is only told of where it was said.
    """

    name: str
    field: str
    factor: float = 1
    kind: type = int
    is_ours: bool = False


_MS: Final = 0.001
_ABORT: Final = Attribute("abort", "abort", kind=bool, is_ours=True)
_FRACTION: Final = Attribute("fraction", "fraction", kind=float)

#: The fault of each type of toxic, and its attributes.
TOXICS: Final[Mapping[str, tuple[str, tuple[Attribute, ...]]]] = MappingProxyType(
    {
        "latency": ("latency", (Attribute("latency", "delay", _MS), Attribute("jitter", "jitter", _MS))),
        "bandwidth": ("bandwidth", (Attribute("rate", "rate", 1000),)),
        "slow_close": ("slow-close", (Attribute("delay", "delay", _MS),)),
        "timeout": ("timeout", (Attribute("timeout", "after", _MS), _ABORT)),
        "reset_peer": ("reset", (Attribute("timeout", "after", _MS),)),
        "slicer": (
            "slicer",
            (
                Attribute("average_size", "size"),
                Attribute("size_variation", "variation"),
                Attribute("delay", "delay", 1e-6),
            ),
        ),
        "limit_data": ("limit-data", (Attribute("bytes", "size"), _ABORT)),
        "limit_time": ("limit-time", (Attribute("time", "after", _MS), _ABORT)),
        "noop": ("noop", ()),
        "corrupt": ("corrupt", (_FRACTION,)),
        "refuse": ("refuse", ()),
        "loss": ("loss", (_FRACTION,)),
        "duplicate": ("duplicate", (_FRACTION,)),
        "reorder": ("reorder", (_FRACTION, Attribute("delay", "delay", _MS))),
    }
)
#: Those that only datagrams have.
FOR_DATAGRAMS: Final = frozenset({"loss", "duplicate", "reorder"})


@frozen
class Toxic:
    """
    One toxic as a client knows it.

    :ivar stream: ``downstream`` or ``upstream``, in the case in which it was said.
    :ivar toxicity: how many of the connections it strikes, as it was said: 0 or less is none, 1 or more all.
    """

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, int | float | bool]

    @property
    def direction(self) -> Direction:
        """The way of the bytes that it strikes."""
        return _STREAMS[self.stream.lower()]

    def as_json(self) -> dict[str, Any]:
        """As an answer has it."""
        return {
            "attributes": dict(self.attributes),
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }

    def fault(self, seed: int) -> FaultsOptions:
        """
        The same as options of ``filter faults``.

        :param seed: of all toxics of a process; their names make theirs of it.
        :raises BadToxic: the attributes do not make sense.
        """
        kind, attributes = TOXICS[self.type]
        values = {one.field: _scaled(self.attributes.get(one.name, 0), one) for one in attributes}
        if kind == "slicer":
            # toxiproxy's own clients send a variation that is as large as the size.
            values["variation"] = min(values["variation"], max(values["size"] - 1, 0))
        needed, optional = NEEDS[kind]
        if "direction" in needed | optional:
            values["direction"] = self.direction.value
        if kind == "reorder" and not values["delay"]:
            del values["delay"]
        options = FaultsOptions(
            kind=kind,
            probability=min(max(self.toxicity, 0.0), 1.0),
            seed=make_seed(seed, self.name),
            **values,
        )
        try:
            check_options(options)
        except ValueError as error:
            raise BadToxic(f"{self.type}: {error}") from None
        return options


def _scaled(value: Any, attribute: Attribute) -> Any:
    if attribute.kind is bool:
        return bool(value)
    return value if attribute.factor == 1 else type(attribute.factor)(value * attribute.factor)


def read_toxic(data: Any) -> Toxic:
    """
    A new toxic.

    :param data: what a client has sent.
    :raises BadToxic: it is none.
    """
    said = _object(data, "a toxic")
    stream = text_of(said, "stream", "downstream")
    if stream.lower() not in _STREAMS:
        raise BadToxic("stream was invalid, can be either upstream or downstream")
    kind = text_of(said, "type", "")
    name = text_of(said, "name", "") or f"{kind}_{stream}"
    if kind not in TOXICS:
        raise BadToxic("invalid toxic type")
    blank = {one.name: one.kind(0) for one in TOXICS[kind][1] if not one.is_ours}
    return _told(Toxic(name, kind, stream, 1.0, blank), said)


def changed_toxic(toxic: Toxic, data: Any) -> Toxic:
    """
    `toxic` with other attributes, or another toxicity; all else that is said is ignored, as toxiproxy does.

    :raises BadToxic: they are none.
    """
    return _told(toxic, _object(data, "a toxic"))


def _told(toxic: Toxic, said: Mapping[str, Any]) -> Toxic:
    toxicity = said.get("toxicity")
    attributes = dict(toxic.attributes)
    known = {one.name: one for one in TOXICS[toxic.type][1]}
    for name, value in _object(said.get("attributes") or {}, "attributes").items():
        # What a type does not know is ignored, as toxiproxy does; null is nothing.
        if name in known and value is not None:
            attributes[name] = _value(value, known[name])
    return evolve(
        toxic,
        toxicity=toxic.toxicity if toxicity is None else _number(toxicity, "toxicity"),
        attributes=attributes,
    )


def _object(data: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise BadToxic(f"bad request body: {what} must be an object")
    return data


def text_of(said: Mapping[str, Any], key: str, default: str) -> str:
    """
    The text that a client gives for `key`; null is nothing.

    :raises BadToxic: it is no text, or longer than `MOST_NAME`.
    """
    value = said.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > MOST_NAME:
        raise BadToxic(f"bad request body: {key} must be text of {MOST_NAME} characters at most")
    return value


def _value(value: Any, attribute: Attribute) -> int | float | bool:
    name = attribute.name
    if attribute.kind is bool:
        if not isinstance(value, bool):
            raise BadToxic(f"bad request body: {name} must be true or false")
        return value
    number = _number(value, name)
    if attribute.kind is int:
        if number != int(number) or not 0 <= number <= MOST:
            raise BadToxic(f"bad request body: {name} must be a whole number from 0 to {MOST}")
        return int(number)
    if not 0 <= number <= 1:
        raise BadToxic(f"bad request body: {name} must be a number from 0 to 1")
    return number


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**62:
        raise BadToxic(f"bad request body: {name} must be a number")
    number = float(value)
    if not math.isfinite(number):
        raise BadToxic(f"bad request body: {name} must be a number")
    return number
