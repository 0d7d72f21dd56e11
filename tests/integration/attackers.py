"""
A crowd of clients that attack one listener, in a process of its own.

``python -m tests.integration.attackers ADDRESS COUNT AGAIN BEHAVIOUR PRELUDE`` opens COUNT connections
to ADDRESS (``HOST:PORT`` or a unix path) and opens those again that are closed, AGAIN a second at most.
BEHAVIOUR is ``silent`` (sends nothing), ``drip`` (sends one byte of PRELUDE a second, not all at once)
or ``deaf`` (sends all of PRELUDE and never reads). PRELUDE is hexadecimal. It prints ``ready`` when every
connection was tried once, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time

#: Connections that are opened between two looks at the others.
BATCH = 100
#: Parts of a second in each of which another part of the crowd drips.
PARTS = 50
#: Bytes of what a deaf client's kernel takes before its window is full.
DEAF_BUFFER = 4096


def attack(address: str, count: int, again: int, behaviour: str, prelude: bytes) -> None:
    """Attack until standard input ends."""
    poll = select.epoll()
    poll.register(0, select.EPOLLIN | select.EPOLLHUP)
    crowd: dict[int, socket.socket] = {}
    sent: dict[int, int] = {}
    opened = 0
    part = 0
    next_drip = next_again = time.monotonic()
    while True:
        now = time.monotonic()
        missing = count - len(crowd)
        allowed = BATCH if opened < count else min(again // 10, missing) if now >= next_again else 0
        for _ in range(min(missing, allowed)):
            sock = connect(address, deaf=behaviour == "deaf")
            opened += 1
            if sock is not None:
                crowd[sock.fileno()] = sock
                sent[sock.fileno()] = 0
                poll.register(sock, select.EPOLLOUT if behaviour == "deaf" else select.EPOLLIN)
        if opened >= count > opened - BATCH:
            opened = count + BATCH
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        if now >= next_again:
            next_again = now + 0.1
        if behaviour == "drip" and now >= next_drip:
            next_drip = now + 1.0 / PARTS
            part = (part + 1) % PARTS
            for number, sock in crowd.items():
                if number % PARTS != part:
                    continue
                place = sent[number]
                with contextlib.suppress(OSError):
                    sent[number] += sock.send(prelude[place : place + 1])
        for number, event in poll.poll(1.0 / PARTS):
            if number == 0:
                return
            over = event & (select.EPOLLHUP | select.EPOLLERR)
            if behaviour == "deaf" and not over:
                with contextlib.suppress(OSError):
                    sent[number] += crowd[number].send(prelude[sent[number] :])
                poll.modify(number, 0)
            elif over or at_end(crowd[number]):
                poll.unregister(number)
                crowd.pop(number).close()


def connect(address: str, *, deaf: bool) -> socket.socket | None:
    """A connection under way; None if the kernel refuses it at once."""
    unix = address.startswith("/")
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    if deaf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_BUFFER)
    sock.setblocking(False)
    host, _, port = address.rpartition(":")
    try:
        sock.connect(address if unix else (host, int(port)))
    except BlockingIOError:
        if unix:  # the backlog is full
            sock.close()
            return None
    except OSError:
        sock.close()
        return None
    return sock


def at_end(sock: socket.socket) -> bool:
    """Whether the forwarder has closed it; what it says is read."""
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], bytes.fromhex(sys.argv[5]))
    # The kernel closes thousands of connections faster than the interpreter.
    os._exit(0)
