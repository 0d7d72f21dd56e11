# -*- test-case-name: tests.cli.test_replay -*-
"""
``portfwd replay``: plays recorded sessions again, and compares the answers.

It connects or listens with blocking sockets, one session after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

from portfwd.cli.playing import PATIENCE, Play, ReplayOutcome
from portfwd.cli.reading import BAD_FILE, CANNOT_READ, FINE
from portfwd.filters.builtin.hexdump import dump_lines
from portfwd.filters.options import address
from portfwd.logs.recording import BadRecording, RecordedSession, read_recording
from portfwd.quantities import parse_duration
from portfwd.service.daemon.regular import open_any
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Address, Side, UnixAddress, counted, printable

#: The exit code if the bytes of a peer differ from the record, or a session could not be played.
DIFFERENT: Final = 1

DESCRIPTION = """\
Play sessions that the filter 'record' has written. --to plays the client's side to
a server; --listen plays the upstream's side to clients that connect. The bytes of
the peer are compared with the record. Without --to and --listen, the sessions are
listed.

example:
  portfwd replay web.record --to 127.0.0.1:8080 --no-wait

exit codes:
  0  the peer sent the same bytes in all sessions, or the sessions were listed
  1  the peer sent other bytes, a session cannot be played, FILE cannot be read,
     or connecting to or listening on the address failed
  2  FILE is not a record, has no such session, or the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "replay",
        help="play recorded sessions again, and compare the answers",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="a record of the filter 'record'")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to", metavar="ADDRESS", type=_address, help="connect to HOST:PORT or unix:PATH")
    where.add_argument(
        "--listen", metavar="ADDRESS", type=_address, help="listen there, for one client per session"
    )
    parser.add_argument(
        "--side",
        choices=[side.value for side in Side],
        help="the side that is played (the client with --to, the upstream with --listen)",
    )
    parser.add_argument("--session", metavar="N", type=int, help="only the Nth session of the list")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--speed", metavar="N", type=_speed, default=1.0, help="N times as fast as recorded (1)"
    )
    pace.add_argument("--no-wait", action="store_true", help="send as soon as the answers have come")
    parser.add_argument(
        "--patience",
        metavar="TIME",
        type=_duration,
        default=PATIENCE,
        help=f"maximum silence while bytes of the peer are expected ({PATIENCE:g}s)",
    )
    parser.set_defaults(run=run)


def _address(text: str) -> Address:
    try:
        return address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError("expected a number above 0, such as 2 or 0.5")
    return speed


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd replay``."""
    try:
        with open_any(arguments.file) as file:
            sessions = list(enumerate(read_recording(file), 1))
    except OSError as error:
        return _wrong(CANNOT_READ, f"cannot read '{printable(arguments.file)}': {error.strerror}")
    except BadRecording as error:
        return _wrong(BAD_FILE, f"{printable(arguments.file)}: {error}")
    if arguments.session is not None:
        sessions = [one for one in sessions if one[0] == arguments.session]
        if not sessions:
            return _wrong(BAD_FILE, f"{printable(arguments.file)}: there is no session {arguments.session}")
    if arguments.to is None and arguments.listen is None:
        for number, session in sessions:
            print(_listed(number, session))
        print(counted(len(sessions), "session"))
        return FINE
    side = Side.CLIENT if arguments.listen is None else Side.UPSTREAM
    if arguments.side is not None:
        side = Side(arguments.side)
    try:
        with _sockets(arguments) as sockets:
            results = [_play(number, session, side, sockets, arguments) for number, session in sessions]
    except OSError as error:
        where = arguments.listen if arguments.to is None else arguments.to
        return _wrong(CANNOT_READ, f"{where}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _wrong(DIFFERENT, "interrupted")
    return FINE if all(results) else DIFFERENT


def _wrong(code: int, message: str) -> int:
    print(f"portfwd replay: {message}", file=sys.stderr)
    return code


def _listed(number: int, session: RecordedSession) -> str:
    """A session in the list."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(session.opened_at))
    who = " ".join(f"{printable(key)}={printable(value)}" for key, value in session.notes.items())
    sizes = f"up {session.size(TO_UPSTREAM)} down {session.size(TO_CLIENT)}"
    why = _unplayable(session)
    return " ".join(part for part in (f"{number:4}", f"{at}Z", who, sizes, why and f"({why})") if part)


def _unplayable(session: RecordedSession) -> str:
    """The reason why a session cannot be played, or an empty text."""
    if session.lost:
        return f"{counted(session.lost, 'byte')} missing"
    if session.notes.get("network") == "udp":
        return "datagrams cannot be played"
    return ""


@contextlib.contextmanager
def _sockets(arguments: argparse.Namespace) -> Iterator[Iterator[socket.socket]]:
    """
    An iterator of sockets that are connected to the peer, one for each session.

    :raises OSError: listening failed.
    """
    if arguments.listen is None:
        yield (_connect(arguments.to, arguments.patience) for _ in iter(int, 1))
        return
    with _listener(arguments.listen) as listener:
        print(f"listening on {arguments.listen}", flush=True)
        try:
            yield (listener.accept()[0] for _ in iter(int, 1))
        finally:
            if isinstance(arguments.listen, UnixAddress) and not arguments.listen.path.startswith("@"):
                os.unlink(arguments.listen.path)


def _connect(to: Address, patience: float) -> socket.socket:
    if not isinstance(to, UnixAddress):
        return socket.create_connection((to.host, to.port), patience)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(patience)
        sock.connect(to.sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


def _listener(where: Address) -> socket.socket:
    if not isinstance(where, UnixAddress):
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        return socket.create_server((where.host, where.port), family=family)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(where.sockaddr)
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _play(
    number: int,
    session: RecordedSession,
    side: Side,
    sockets: Iterator[socket.socket],
    arguments: argparse.Namespace,
) -> bool:
    """Play one session and print the result; return whether the peer sent the same bytes."""
    mine = TO_UPSTREAM if side is Side.CLIENT else TO_CLIENT
    why = _unplayable(session) or (
        "" if session.knows(mine) else f"the {side.value}'s bytes were not recorded"
    )
    if why:
        print(f"session {number}: not played: {why}")
        return False
    speed = None if arguments.no_wait else arguments.speed
    with next(sockets) as sock:
        outcome = Play(sock, session, side, speed=speed, patience=arguments.patience).run()
    _print_outcome(number, side.other, outcome)
    return outcome.difference is None


def _print_outcome(number: int, peer: Side, outcome: ReplayOutcome) -> None:
    difference = outcome.difference
    if difference is None:
        print(
            f"session {number}: the same: {counted(outcome.sent, 'byte')} sent, {outcome.received} received"
        )
        return
    print(f"session {number}: the {peer.value} differs: {difference.what}")
    for title, data in (("then", difference.then), ("now", difference.now)):
        for line in dump_lines(data, difference.offset):
            print(f"  {title:4} {line}")
