"""A firewall for Redis: passes listed commands, refuses all others, and keeps the order of answers."""

from collections import deque

from portfwd.filters import (
    NEED_MORE,
    TO_UPSTREAM,
    Again,
    Close,
    Direction,
    Filter,
    Forward,
    Reply,
    Verdict,
)

#: Commands that pass. Each has exactly one answer. No scripts: they can call any other command.
ALLOWED = frozenset(
    b"AUTH PING SELECT GET SET SETEX MGET MSET DEL EXISTS EXPIRE TTL INCR DECR TYPE SCAN DBSIZE "
    b"HGET HSET HDEL HGETALL LPUSH RPUSH LPOP RPOP LRANGE SADD SREM SMEMBERS ZADD ZRANGE".split()
)
#: Commands whose answers are due.
MOST_DUE = 10_000


class Messages:
    """Finds where messages of RESP end, in pieces of any size, and keeps none of them."""

    def __init__(self) -> None:
        self.line = b""
        self.bulk = 0  # bytes of a string that are still to come
        self.open: list[int] = []  # elements that are still to come, of each array around

    def end(self, data: bytes) -> int:
        """How many bytes of `data` belong to the first message; 0 if it ends later."""
        place = 0
        while place < len(data):
            if self.bulk:
                step = min(self.bulk, len(data) - place)
                self.bulk -= step
                place += step
                if not self.bulk and self.is_over():
                    return place
                continue
            stop = data.find(b"\n", place)
            self.line += data[place : len(data) if stop < 0 else stop + 1]
            if len(self.line) > 65536:
                raise ValueError("a line without an end")
            if stop < 0:
                return 0
            place = stop + 1
            line, self.line = self.line, b""
            if line[-2:] != b"\r\n":
                raise ValueError("a line that ends without CR")
            kind, count = line[:1], int(line[1:]) if line[:1] in b"*~%>$" else 0
            if kind == b"$" and count >= 0:
                self.bulk = count + 2
            elif kind in b"*~%>" and count > 0:
                self.open.append(2 * count if kind == b"%" else count)
            elif self.is_over():
                return place
        return 0

    def is_over(self) -> bool:
        """An element has ended; say whether the message has."""
        while self.open:
            self.open[-1] -= 1
            if self.open[-1]:
                return False
            self.open.pop()
        return True


def name_of(command: bytes) -> bytes:
    """
    The first word of a command.

    :raises ValueError: it is not an array of strings. Redis also accepts bare lines, with quotes and escapes
        of their own, and ignores empty ones.
    """
    count, length, word, *_ = [*command.split(b"\r\n", 3), b"", b""]
    if count[:1] != b"*" or not word or length != b"$%d" % len(word):
        raise ValueError("not an array of strings")
    return word.upper()


class Firewall(Filter):
    """Answers what it refuses itself, in its turn: clients send many commands before the first answer."""

    max_hold = 1024 * 1024  # of one command

    def __init__(self) -> None:
        self.answers = Messages()
        self.due: deque[bytes | None] = deque()  # an answer of the server's, or one of ours

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Commands one by one, answers as they come."""
        try:
            return self.commanded(data) if direction is TO_UPSTREAM else self.answered(data)
        except ValueError as error:
            return Close(f"not RESP: {error}")

    def commanded(self, data: bytes) -> Verdict:
        """Pass a command on, or answer it."""
        end = Messages().end(data)
        if not end:
            return NEED_MORE
        command, rest = data[:end], data[end:]
        if len(self.due) >= MOST_DUE:
            return Close("too many commands without an answer")
        if name_of(command) in ALLOWED:
            self.due.append(None)
            return [Forward(command), Again(rest)]
        refusal = b"-ERR this command is refused\r\n"
        if self.due:
            self.due.append(refusal)
            return Again(rest)
        return [Reply(refusal), Again(rest)]

    def answered(self, data: bytes) -> Verdict:
        """Pass answers on, and behind each what it kept back."""
        passed = []
        while data:
            end = self.answers.end(data)
            if not end:
                passed.append(Forward(data))
                break
            passed.append(Forward(data[:end]))
            data = data[end:]
            if self.due:
                self.due.popleft()
            while self.due and (ours := self.due[0]) is not None:
                self.due.popleft()
                passed.append(Forward(ours))
        return passed
