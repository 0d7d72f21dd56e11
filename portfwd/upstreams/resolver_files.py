# -*- test-case-name: tests.upstreams.test_resolver_files -*-
"""
Read ``/etc/resolv.conf`` and ``/etc/hosts``: name servers, search domains, and names with addresses.

The files are parsed as described in resolv.conf(5) and hosts(5), and read again when they have changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from attrs import frozen

from portfwd.values import is_literal

#: resolv.conf(5): "up to MAXNS (currently 3) name servers".
MAX_SERVERS: Final = 3

#: Maximum number of search domains: glibc's limit before 2.26. For a name that does not exist, each costs two
#: questions.
MAX_SEARCH: Final = 6

#: resolv.conf(5): ``ndots`` is "silently capped to 15", ``timeout`` to 30 and ``attempts`` to 5.
MAX_NDOTS: Final = 15
MAX_TIMEOUT: Final = 30
MAX_ATTEMPTS: Final = 5

#: Seconds between two checks whether a file has changed.
LOOK_AGAIN: Final = 5.0

#: Maximum bytes of a file that are read. A list of a hundred thousand blocked names has 3 MB.
MAX_FILE: Final = 4 * 1024 * 1024


@frozen
class ResolverConfig:
    """
    The settings of resolv.conf(5).

    :ivar servers: IP addresses.
    :ivar search: domains that are appended to a name.
    :ivar ndots: a name with at least this many dots is first tried unchanged.
    :ivar timeout: seconds to wait for the answer of one server.
    :ivar attempts: number of times that each server is asked.
    """

    servers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 5.0
    attempts: int = 2


def parse_resolv_conf(text: str, hostname: str = "") -> ResolverConfig:
    """
    Parse resolv.conf(5); unknown lines are ignored, as by the system's resolver.

    :param hostname: the name of this machine; its domain is searched if the file names none.
    """
    servers: list[str] = []
    search = tuple(filter(None, [hostname.partition(".")[2]]))
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    most = {"ndots": MAX_NDOTS, "timeout": MAX_TIMEOUT, "attempts": MAX_ATTEMPTS}
    for line in text.splitlines():
        if line.startswith(("#", ";")):
            continue
        keyword, *words = line.split() or [""]
        if keyword == "nameserver" and words and is_literal(words[0]) and len(servers) < MAX_SERVERS:
            servers.append(words[0])
        elif keyword == "domain" and words:
            search = (words[0].strip("."),)
        elif keyword == "search":
            search = tuple(word.strip(".") for word in words if word != ".")[:MAX_SEARCH]
        elif keyword == "options":
            for word in words:
                name, _, value = word.partition(":")
                # Numbers with more digits than any of the limits are ignored.
                if name in numbers and value.isascii() and value.isdecimal() and len(value) < 10:
                    numbers[name] = min(int(value), most[name])
    return ResolverConfig(
        tuple(servers) or ("127.0.0.1",),
        search,
        numbers["ndots"],
        float(max(1, numbers["timeout"])),
        max(1, numbers["attempts"]),
    )


def parse_hosts(text: str) -> Mapping[str, Sequence[str]]:
    """Parse hosts(5): names in lower case, each with its IP addresses in the order of the file."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if not names or not is_literal(address):
            continue
        for name in names:
            known = found.setdefault(name.lower(), [])
            if address not in known:
                known.append(address)
    return found


def candidates(name: str, config: ResolverConfig) -> list[str]:
    """Return the full names to ask for, in order, according to ``search`` and ``ndots``."""
    if name.endswith("."):
        return [name[:-1]]
    searched = [f"{name}.{domain}" for domain in config.search]
    return [name, *searched] if name.count(".") >= config.ndots else [*searched, name]


Value = TypeVar("Value")


class _File:
    """One file, with its identity when it was last read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._looked_at: float | None = None

    def changed(self, now: float) -> str | None:
        """
        Return the text if the file has changed, else None.

        The text is empty if the file cannot be read the first time. If it cannot be read later, the previous
        text stays valid: it is being replaced, or this process has changed its root directory.
        """
        if self._looked_at is not None and now < self._looked_at + LOOK_AGAIN:
            return None
        first, self._looked_at = self._looked_at is None, now
        try:
            found = os.stat(self.path)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen:
                return None
            text = read_start(self.path)
        except OSError:
            return "" if first else None
        self._seen = seen
        return text


def read_start(path: str) -> str:
    """
    Read the first `MAX_FILE` bytes of a regular file.

    :raises OSError: it cannot be read, or it is not a regular file and reading could block.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        data = file.read(MAX_FILE)
    if data is None:  # as of /proc/kmsg, which is a regular file by its mode
        raise OSError("it has no data now")
    return data.decode("utf-8", "replace")


class ResolverFiles:
    """Both files, read again when they have changed."""

    def __init__(
        self,
        now: Callable[[], float],
        hostname: str = "",
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
    ) -> None:
        """
        :param now: returns the seconds of a monotonic clock.
        :param hostname: the name of this machine.
        """
        self._now = now
        self._hostname = hostname
        self._resolv_conf = _File(resolv_conf)
        self._hosts_file = _File(hosts)
        self._config = ResolverConfig()
        self._hosts: Mapping[str, Sequence[str]] = {}
        # Read now: after a change of the root directory or the user the files may not be readable.
        self.addresses("")
        _ = self.config

    @property
    def config(self) -> ResolverConfig:
        """The current settings of resolv.conf."""
        text = self._resolv_conf.changed(self._now())
        if text is not None:
            self._config = parse_resolv_conf(text, self._hostname)
        return self._config

    def addresses(self, name: str) -> Sequence[str]:
        """Return the addresses of `name` in the hosts file; none if it does not contain the name."""
        text = self._hosts_file.changed(self._now())
        if text is not None:
            self._hosts = parse_hosts(text)
        return self._hosts.get(name.lower().removesuffix("."), ())
