# -*- test-case-name: tests.admin.web.test_access -*-
"""
Who may ask a web listener for what.

A foreign page must not ask in the name of a user who looks at it. A name that such a page controls may lead
to the listener (DNS rebinding), so only ``localhost``, literal addresses and names that the rules file lists
are taken as ``Host``. A request that a page of another origin makes (CSRF) is known by ``Origin`` and
``Sec-Fetch-Site``. A request without ``Host`` comes from no browser. A token, where there is one, is asked of
everybody for all that tells of traffic; it is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from portfwd.admin.tight_files import LooseFile, read_tight
from portfwd.rules.admin_lines import Level
from portfwd.values import counted

#: Characters of a token: 16 of 64 letters are 96 bits, which nobody guesses.
SHORTEST_TOKEN: Final = 16
LONGEST_TOKEN: Final = 1024

_TOKEN: Final = re.compile(rb"[!-~]+")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
#: What a browser says of a request that no other page has made.
_OWN: Final = ("same-origin", "none")


@frozen
class AccessRefusal:
    """
    A request that is not served.

    :ivar status: of HTTP.
    :ivar code: a word for programs.
    """

    status: int
    code: str
    message: str


def read_token(path: str) -> bytes:
    """
    The token of a file: one word.

    :raises LooseFile: others can read or write it, or it is no token.
    :raises OSError: it cannot be read.
    """
    token = read_tight(path, secret=True).strip()
    if not _TOKEN.fullmatch(token):
        raise LooseFile(f"{path} has no token: write one word of printable ASCII into it")
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise LooseFile(
            f"{path} has a token of {counted(len(token), 'character')};"
            f" it takes {SHORTEST_TOKEN} to {LONGEST_TOKEN}:"
            " 'openssl rand -base64 24' makes one"
        )
    return token


def _digest(token: bytes) -> bytes:
    # Digests are of one length, so that a comparison does not tell the token's.
    return hashlib.sha256(token).digest()


def _kept(token: bytes | None) -> bytes | None:
    return None if token is None else _digest(token)


@frozen
class Access:
    """
    What one listener lets in.

    :ivar level: what those may do who may ask.
    :ivar hosts: names that it is known by, in small letters.
    """

    level: Level
    hosts: frozenset[str] = frozenset()
    _token: bytes | None = field(default=None, repr=False, converter=_kept)

    @property
    def wants_token(self) -> bool:
        """Whether a token is asked for."""
        return self._token is not None

    def check_host(self, hosts: Iterable[bytes]) -> AccessRefusal | None:
        """See that the request was meant for this listener; `hosts` are its ``Host`` lines."""
        names = [self._host(one) for one in hosts]
        if not names:
            return None
        if len(names) == 1 and names[0] is not None:
            return None
        return AccessRefusal(
            421,
            "bad-host",
            "the request names another host: name this one by its address, or list its name in host= of the"
            " line 'web'",
        )

    def _host(self, value: bytes) -> str | None:
        match = _HOST.fullmatch(value.decode("latin-1"))
        if match is None:
            return None
        name = match[1].lower().removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or name in self.hosts:
            return name
        try:
            return str(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return None

    def check_origin(
        self, hosts: Iterable[bytes], origins: Iterable[bytes], sites: Iterable[bytes]
    ) -> AccessRefusal | None:
        """See that no page of another origin asks; `sites` are the request's ``Sec-Fetch-Site`` lines."""
        host = next(iter(hosts), b"")
        for origin in origins:
            scheme, _, place = origin.partition(b"://")
            if scheme not in (b"http", b"https") or place.lower() != host.lower():
                return AccessRefusal(403, "bad-origin", "a page of another origin may not ask")
        if any(site.decode("latin-1") not in _OWN for site in sites):
            return AccessRefusal(403, "bad-origin", "a page of another site may not ask")
        return None

    def check_token(self, authorizations: Iterable[bytes]) -> AccessRefusal | None:
        """See that the request has the token, if one is asked for."""
        if self._token is None:
            return None
        for one in authorizations:
            scheme, _, token = one.partition(b" ")
            if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self._token):
                return None
        return AccessRefusal(
            401, "unauthorized", "it takes the token: the header 'Authorization: Bearer TOKEN'"
        )
