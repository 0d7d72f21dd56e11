# -*- test-case-name: tests.admin.web.test_access -*-
"""
Access control of a web listener.

A page of another site must not make requests with the rights of the user who visits it. The site may resolve
a name to the listener's address (DNS rebinding), so ``Host`` must be ``localhost``, a literal address, or a
name that the rules file lists. Requests of pages of other origins (CSRF) are detected by ``Origin`` and
``Sec-Fetch-Site``. A request without ``Host`` is not from a browser. If a token is configured, all resources
with data about traffic require it. It is compared in constant time.
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

#: Length limits of a token in characters: 16 characters of an alphabet of 64 have 96 bits, which are secure.
SHORTEST_TOKEN: Final = 16
LONGEST_TOKEN: Final = 1024

_TOKEN: Final = re.compile(rb"[!-~]+")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
#: Values of ``Sec-Fetch-Site`` for requests of the page itself or of the user.
_OWN: Final = ("same-origin", "none")


@frozen
class AccessRefusal:
    """
    The reason why a request is refused.

    :ivar status: HTTP status code.
    :ivar code: code of the error for programs.
    """

    status: int
    code: str
    message: str


def is_own_host(name: str) -> bool:
    """
    Whether no site can resolve `name`, from ``Host``, to an address of its choice.

    :param name: in lower case, without brackets and without a trailing dot.
    """
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_token(path: str) -> bytes:
    """
    The token in a file, which is one word.

    :raises LooseFile: other users can read or write it, or the token is not valid.
    :raises OSError: it cannot be read.
    """
    token = read_tight(path, secret=True).strip()
    if not _TOKEN.fullmatch(token):
        raise LooseFile(f"{path} has no token: write one word of printable ASCII into it")
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise LooseFile(
            f"{path} has a token of {counted(len(token), 'character')};"
            f" a token has {SHORTEST_TOKEN} to {LONGEST_TOKEN}:"
            " 'openssl rand -base64 24' makes one"
        )
    return token


def _digest(token: bytes) -> bytes:
    # Digests have equal lengths, so the time of a comparison does not reveal the length of the token.
    return hashlib.sha256(token).digest()


def _digest_of(token: bytes | None) -> bytes | None:
    return None if token is None else _digest(token)


@frozen
class Access:
    """
    The access control of one listener.

    :ivar level: permission level of accepted requests.
    :ivar hosts: accepted names in ``Host``, in lower case.
    """

    level: Level
    hosts: frozenset[str] = frozenset()
    _token: bytes | None = field(default=None, repr=False, converter=_digest_of)

    @property
    def wants_token(self) -> bool:
        """Whether requests need a token."""
        return self._token is not None

    def check_host(self, hosts: Iterable[bytes]) -> AccessRefusal | None:
        """Check that the request is for this listener; `hosts` are its ``Host`` fields."""
        names = [self._host(one) for one in hosts]
        if not names:
            return None
        if len(names) == 1 and names[0] is not None:
            return None
        return AccessRefusal(
            421,
            "bad-host",
            "the request is for another host name: use the address of the listener, or list the name in host="
            " of the line 'web'",
        )

    def _host(self, value: bytes) -> str | None:
        match = _HOST.fullmatch(value.decode("latin-1"))
        if match is None:
            return None
        name = match[1].lower().removesuffix(".")
        return name if is_own_host(name.strip("[]")) or name in self.hosts else None

    def check_origin(
        self, hosts: Iterable[bytes], origins: Iterable[bytes], sites: Iterable[bytes]
    ) -> AccessRefusal | None:
        """Refuse requests of pages of other origins; `sites` are the ``Sec-Fetch-Site`` fields."""
        host = next(iter(hosts), b"")
        for origin in origins:
            scheme, _, place = origin.partition(b"://")
            if scheme not in (b"http", b"https") or place.lower() != host.lower():
                return AccessRefusal(403, "bad-origin", "requests of pages of other origins are refused")
        if any(site.decode("latin-1") not in _OWN for site in sites):
            return AccessRefusal(403, "bad-origin", "requests of pages of other sites are refused")
        return None

    def check_token(self, authorizations: Iterable[bytes]) -> AccessRefusal | None:
        """Check that the request has the token, if one is configured."""
        if self._token is None:
            return None
        for one in authorizations:
            scheme, _, token = one.partition(b" ")
            if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self._token):
                return None
        return AccessRefusal(
            401, "unauthorized", "the token is missing or wrong: send 'Authorization: Bearer TOKEN'"
        )
