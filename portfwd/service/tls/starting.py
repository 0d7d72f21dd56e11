# -*- test-case-name: tests.service.tls.test_starting -*-
"""
Prepares the TLS that filters start in an open connection, from the ``starts_tls`` of their factories.

Files are read together with the rules, so ``check`` finds their problems, and again when they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from portfwd.kernel.reactor import Reactor
from portfwd.relay.tls_start import TLSStart
from portfwd.rules.model import SOCKETS_ONLY, TLS_KINDS, Kind, Rule
from portfwd.service.build.target_texts import listener_options, target_options
from portfwd.service.build.targets import warn_unverified
from portfwd.service.daemon.reading import in_thread
from portfwd.service.tls.files import way_out
from portfwd.service.tls.listeners import ServerSide
from portfwd.service.tls.renewal import Run
from portfwd.service.tls.targets import ClientSide, client_side
from portfwd.values import Side

#: A placeholder for options without ``server-name=``. The host of the dialled target replaces it.
NO_HOST = "localhost"


def start_problem(rule: Rule, factory: Any) -> str:
    """The problem of a factory's ``starts_tls`` for this rule, or an empty text. Reads its files."""
    wanted = getattr(factory, "starts_tls", {})
    if not isinstance(wanted, Mapping) or not all(isinstance(side, Side) for side in wanted):
        return "starts_tls must map sides to options of TLS"
    if wanted and rule.has_datagrams:
        return "there is no TLS over datagrams"
    if wanted and rule.options.relay in SOCKETS_ONLY:
        return f"relay={rule.options.relay.value} cannot start TLS in an open connection: write relay=auto"
    for side, options in wanted.items():
        ends = (rule.listen,) if side is Side.CLIENT else tuple(rule.every_target())
        kinds = {end.kind for end in ends} & {*TLS_KINDS, Kind.ENDPOINT}
        if kinds:
            kind = min(kind.value for kind in kinds)
            return f"TLS cannot start on the side of the {side.value}, which is {kind}:"
        try:
            _try(side, options)
        except OSError as problem:
            return f"{problem.filename}: {problem.strerror}; {way_out(problem, str(problem.filename))}"
        except (ValueError, TypeError) as problem:
            return str(problem)
    return ""


def _try(side: Side, options: Mapping[str, str]) -> None:
    """Do what `_start` does, without logging."""
    if side is Side.CLIENT:
        ServerSide.judge_options(listener_options(options))
    else:
        target = target_options(options)
        ClientSide(target.server_name or NO_HOST, target)


def tls_starts(name: str, factories: Iterable[Any], reactor: Reactor) -> dict[tuple[int, Side], TLSStart]:
    """
    The TLS that the filters of one rule may start, by the identity of the factory and the side.

    :param name: name of the rule, for the log.
    :raises OSError, ValueError: a file or an option cannot be used.
    """
    made: dict[tuple[int, Side], TLSStart] = {}
    for factory in factories:
        wanted: Mapping[Side, Mapping[str, str]] = getattr(factory, "starts_tls", {})
        for side, options in wanted.items():
            run = partial(in_thread, reactor)
            made[id(factory), side] = _start(name, side, options, reactor.seconds, run)
    return made


def _start(
    name: str, side: Side, options: Mapping[str, str], seconds: Callable[[], float], run: Run
) -> TLSStart:
    if side is Side.CLIENT:
        listen = listener_options(options)
        return TLSStart(ServerSide(name, listen, seconds, run=run), listen.handshake_timeout)
    target = target_options(options)
    label = f"{name}: upstream"
    warn_unverified(label, target)
    made = client_side(target.server_name or NO_HOST, target, seconds=seconds, run=run, label=label)
    return TLSStart(made, target.connect_timeout, made, named=bool(target.server_name))
