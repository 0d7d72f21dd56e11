# -*- test-case-name: tests.service.build.test_build -*-
"""
Prepares targets for dialling: addresses, endpoints of Twisted, and TLS settings.

Files are read here, at build time. Nothing is resolved or connected.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, cast

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.rules.model import DATAGRAM_KINDS, TLS_KINDS, UNIX_KINDS, Kind, Options, TargetSpec
from portfwd.rules.options import OPTIONS, Needs
from portfwd.service.daemon.reading import in_thread
from portfwd.service.tls.targets import ClientSide, client_side
from portfwd.values import Address, InetAddress, UnixAddress

_LOG: Final = Logger()


def target_label(spec: TargetSpec, port: int | None) -> str:
    """A target as written, for one port of a range: ``tls:a.example:443``, ``10.0.0.1:53/udp``."""
    prefix = "" if spec.kind in (Kind.TCP, Kind.UDP) else f"{spec.kind.value}:"
    if port is None:
        return f"{prefix}{spec.path}"
    return f"{prefix}{InetAddress(spec.host, port)}{'/udp' if spec.kind is Kind.UDP else ''}"


#: The options of a `ClientSide`. Targets with equal options share one, because it has all authorities in
#: memory.
_TLS_FIELDS: Final = tuple(option.field for option in OPTIONS if option.needs is Needs.TLS_TARGET)

T = TypeVar("T")
TLSCreators = dict[tuple[object, ...], ClientSide]


def described(description: str, parse: Callable[[], T]) -> T:
    """
    Make an endpoint of its description.

    :raises ValueError: the parser has raised any exception.
    """
    try:
        return parse()
    except KeyboardInterrupt:
        raise  # the operator's
    except BaseException as problem:
        raise ValueError(f'endpoint:"{description}": {problem or type(problem).__name__}') from problem


def destination(
    spec: TargetSpec,
    offset: int,
    context: RelayContext,
    creators: TLSCreators | None = None,
    rule: str = "-",
) -> Destination:
    """
    Prepare `spec` for dialling.

    :param offset: number of the port in a range, from 0. A target with one port gets all.
    :param creators: existing ones to reuse, because each has all authorities in memory.
    :param rule: name of the rule, for the log.
    :raises OSError, ValueError: a certificate file or the description of an endpoint cannot be used.
    """
    port = None
    if spec.ports is not None:
        port = spec.ports.first + (offset if len(spec.ports) > 1 else 0)
    label = target_label(spec, port)
    options = spec.options
    if spec.given is not None:
        return Destination(label, options, endpoint=cast(IStreamClientEndpoint, spec.given))
    if spec.kind is Kind.ENDPOINT:
        endpoint = described(spec.path, lambda: clientFromString(context.reactor, spec.path))
        return Destination(label, options, endpoint=endpoint)
    datagrams = spec.kind in DATAGRAM_KINDS
    address: Address
    if spec.kind in UNIX_KINDS:
        address = UnixAddress(spec.path)
    elif port is None:
        raise ValueError(f"{label}: {spec.kind.value} names no upstream")
    else:
        address = InetAddress(spec.host, port)
    tls = None
    if spec.kind in TLS_KINDS:
        creators = {} if creators is None else creators
        key = (spec.host, *(getattr(options, field) for field in _TLS_FIELDS))
        tls = creators.get(key)
        if tls is None:
            # A reload keeps contexts with unchanged files, and their sessions for resumption.
            known = context.tls_targets.get(key)
            tls = creators[key] = client_side(
                spec.host,
                options,
                seconds=context.reactor.seconds,
                run=partial(in_thread, context.reactor),
                known=known if isinstance(known, ClientSide) else None,
                label=named_target(rule, label),
            )
            context.tls_targets[key] = tls
    return Destination(label, options, address=address, tls=tls, datagrams=datagrams)


def named_target(rule: str, label: str) -> str:
    """A target with its rule, as the log names it."""
    return f"{rule}: target {label}"


def warn_unverified(who: str, options: Options) -> None:
    """Log a warning if nothing verifies the certificate of a target; `who` is rule and target."""
    if not options.verify and not options.pin:
        _LOG.warn(
            "{who}: the certificate of this target is not checked (verify=off):"
            " an attacker on the path can read and change everything",
            who=who,
        )


def target_labels(live: LiveRule) -> str:
    """The targets of a live rule, for the log."""
    return ", ".join(one.label for one in live.destinations)
