"""
Rules files and what is done to them, from a source of random numbers; nothing is read or written.

A file never has two rules at one address. What is broken on purpose is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from attrs import evolve, frozen

from tests.chaos.model import DATAGRAMS, MOVING, TLS, UNIX, Spec

KINDS: Final = ("tcp", "tcp", "tcp", "tls", "udp", "unix", "unix-dgram", "tls:unix", "systemd", "endpoint")
HOSTS: Final = ("127.0.0.1", "127.0.0.1", "127.0.0.2", "0.0.0.0")
NAMES: Final = tuple("abcdefghijkl")
MOST_RULES: Final = 8
FILES: Final = ("s1", "s2", "s3")
#: Sockets that systemd passes, by its names.
HELD: Final = ("web", "api")

#: Ways to break a file.
BREAKAGES: Final = ("syntax", "option", "taken", "certificate", "include", "directory", "limits", "filter")


@frozen
class Places:
    """
    What the rules of one run can use.

    :ivar ports: that only this run uses.
    :ivar taken: a port on which somebody else listens.
    :ivar echo: where connections are answered, and on the same port datagrams.
    :ivar names: whether `MOVING` is a name.
    """

    directory: Path
    ports: tuple[int, ...]
    taken: int
    echo: int
    metrics: int
    names: bool


def a_rule(chance: Random, places: Places, name: str) -> Spec:
    """Any rule."""
    kind = chance.choice(KINDS)
    host = "" if kind in (*UNIX, "systemd") else chance.choice(HOSTS)
    if kind in ("tcp", "udp") and places.names and chance.random() < 0.3:
        host = MOVING
    place = str(chance.choice(places.ports))
    if not host:
        place = chance.choice(HELD if kind == "systemd" else FILES)
    return vary(chance, Spec(name, kind, host, place))


def vary(chance: Random, spec: Spec) -> Spec:
    """The same rule with other options."""
    limited = spec.kind in ("tcp", "unix") and chance.random() < 0.4
    return evolve(
        spec,
        most=chance.randint(1, 3) if limited else None,
        wait=limited and chance.random() < 0.5,
        shares=spec.kind in ("tcp", "unix", *TLS) and chance.random() < 0.2,
        cut=chance.random() < 0.3,
        filtered=spec.kind not in DATAGRAMS and chance.random() < 0.2,
        variant=chance.randint(0, 3),
        included=chance.random() < 0.3,
    )


def free_of_conflicts(specs: Sequence[Spec]) -> list[Spec]:
    """Those that can stand in one file: the first at each place."""
    found: list[Spec] = []
    for spec in specs:
        # Of one port only one host: a wildcard and an address of it may not both be bound.
        taken = {(one.place, one.kind in DATAGRAMS, one.kind in UNIX) for one in found}
        place = (spec.place, spec.kind in DATAGRAMS, spec.kind in UNIX)
        same_file = spec.kind in UNIX and any(one.kind in UNIX and one.place == spec.place for one in found)
        if place not in taken and not same_file and all(one.name != spec.name for one in found):
            found.append(spec)
    return found


def edited(chance: Random, places: Places, specs: Sequence[Spec]) -> list[Spec]:
    """Other rules: some come, go, move, change and get other names."""
    now = list(specs)
    for _ in range(chance.randint(1, 3)):
        way = chance.choice(("add", "add", "remove", "vary", "vary", "move", "rename", "swap", "shuffle"))
        names = [name for name in NAMES if all(one.name != name for one in now)]
        index = chance.randrange(len(now)) if now else None
        if way == "add" and names and len(now) < MOST_RULES:
            now.append(a_rule(chance, places, chance.choice(names)))
        elif index is None:
            continue
        elif way == "remove" and len(now) > 2:
            del now[index]
        elif way == "vary":
            now[index] = vary(chance, now[index])
        elif way == "move":
            now[index] = evolve(a_rule(chance, places, now[index].name), cut=now[index].cut)
        elif way == "rename" and names:
            now[index] = evolve(now[index], name=chance.choice(names))
        elif way == "swap":
            other = chance.randrange(len(now))
            first, second = now[index].name, now[other].name
            now[index], now[other] = evolve(now[index], name=second), evolve(now[other], name=first)
            if index == other:
                now[index] = evolve(now[index], name=first)
        elif way == "shuffle":
            chance.shuffle(now)
    return free_of_conflicts(now)


def texts(places: Places, specs: Sequence[Spec], overall: int) -> tuple[str, str]:
    """The rules file, and the one that it includes."""
    head = (
        "log access=json file=access.log repeats=on\n"
        f"admin unix:{places.directory}/admin.sock\n"
        f"metrics 127.0.0.1:{places.metrics}\n"
        f"limits max-conns={1000 + overall}\n"
        "limits pool max-conns=6\n"
        "include more.conf\n"
    )
    return (
        head + "".join(_line(places, spec) for spec in specs if not spec.included),
        "".join(_line(places, spec) for spec in specs if spec.included),
    )


def _line(places: Places, spec: Spec) -> str:
    directory = places.directory
    target, options = f"127.0.0.1:{places.echo}", ""
    if spec.kind == "endpoint":
        listen = f'endpoint:"tcp:{spec.place}:interface={spec.host}"'
    elif spec.kind == "systemd":
        listen = f"systemd:{spec.place}"
    elif spec.kind in UNIX:
        listen = f"{spec.kind}:{directory}/{spec.place}"
    elif spec.kind == "tls":
        listen = f"tls:{spec.host}:{spec.place}"
    else:
        listen = f"{'udp:' if spec.kind == 'udp' else ''}{spec.host}:{spec.place}"
    if spec.kind in TLS:
        listen += f" cert={directory}/server.pem"
    if spec.kind in DATAGRAMS:
        target = f"udp:{target}"
    if spec.most is not None:
        options += f" max-conns={spec.most} on-limit={'wait' if spec.wait else 'refuse'}"
    if spec.shares:
        options += " limit=pool"
    if spec.cut:
        options += " on-remove=cut"
    options += ("", " rcvbuf=64KiB", " sndbuf=64KiB", " linger=4s")[spec.variant]
    text = f"{spec.name}: {listen} -> {target} idle=1h{options}\n"
    if spec.filtered:
        text += "    filter python:tests.filters.passing.PassThrough\n"
    return text


def broken(chance: Random, places: Places, text: str) -> str:
    """A file that is refused."""
    way = chance.choice(BREAKAGES)
    echo = f"127.0.0.1:{places.echo}"
    return {
        "syntax": f"{text}nonsense\n",
        "option": f"{text}zz: 127.0.0.9:1 -> {echo} ilde=1h\n",
        "taken": f"{text}zz: 127.0.0.1:{places.taken} -> {echo}\n",
        "certificate": f"{text}zz: tls:127.0.0.9:1 cert=/nosuch.pem -> {echo}\n",
        "include": f"{text}include nosuch.conf\n",
        "directory": f"{text}zz: unix:{places.directory}/nosuch/s -> {echo}\n",
        "limits": f"{text}zz: 127.0.0.9:1 -> {echo} limit=nosuch\n",
        "filter": f"{text}zz: 127.0.0.9:1 -> {echo}\n    filter nosuch\n",
    }[way]
