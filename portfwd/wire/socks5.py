# -*- test-case-name: tests.wire.test_socks5 -*-
"""
The messages of a SOCKS 5 server: greeting, password, request and replies (RFC 1928, RFC 1929).

The caller decides about permissions and the order of messages. A reader never reads beyond its message,
whose length is given near its start. Other versions and invalid DNS names are refused.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import Final

from attrs import frozen

from portfwd.values import Address, InetAddress, unmapped
from portfwd.wire.reading import Need, Read, WireError

VERSION: Final = 5
#: Version of the password sub-negotiation (RFC 1929 section 2).
PASSWORD_VERSION: Final = 1

#: Methods of authentication (RFC 1928 section 3).
NO_AUTHENTICATION: Final = 0x00
PASSWORD: Final = 0x02
NO_ACCEPTABLE_METHOD: Final = 0xFF

CONNECT: Final = 1

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class ReplyCode(enum.IntEnum):
    """The result of a request (RFC 1928 section 6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class _Kind(enum.IntEnum):
    """Address types (RFC 1928 section 5)."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


class UnknownAddressType(WireError):
    """The address type of a request is unknown. The reply is `ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED`."""


@frozen
class Credentials:
    """
    A name and a password as bytes, because RFC 1929 does not define their encoding.

    The ``repr`` contains neither.
    """

    name: bytes
    password: bytes

    def __repr__(self) -> str:
        return "<Credentials>"


@frozen
class SocksRequest:
    """
    The request of a client.

    :ivar command: `CONNECT`, or another command, which is not supported.
    :ivar destination: IP addresses are in their shortest form. An IPv4-mapped IPv6 address and an address
        sent as a name are converted.
    """

    command: int
    destination: InetAddress


def read_greeting(data: bytes) -> Read[frozenset[int]] | Need:
    """
    Read the first message: the authentication methods that the client offers.

    :raises WireError: the version is not 5, or no method is offered.
    """
    _check_version(data, VERSION, "SOCKS 5")
    if len(data) < 2:
        return Need(2)
    if not data[1]:
        raise WireError("a SOCKS greeting offers no method")
    used = 2 + data[1]
    return Need(used) if len(data) < used else Read(frozenset(data[2:used]), used)


def build_choice(method: int) -> bytes:
    """Build the answer to a greeting."""
    return bytes([VERSION, method])


def read_credentials(data: bytes) -> Read[Credentials] | Need:
    """
    Read name and password.

    Both may be empty, although the RFC requires at least one byte: clients without a password send them so.

    :raises WireError: the version is wrong.
    """
    _check_version(data, PASSWORD_VERSION, "the password message of SOCKS")
    if len(data) < 2:
        return Need(3)
    name_end = 2 + data[1]
    if len(data) <= name_end:
        return Need(name_end + 1)
    used = name_end + 1 + data[name_end]
    if len(data) < used:
        return Need(used)
    return Read(Credentials(data[2:name_end], data[name_end + 1 : used]), used)


def build_password_status(*, accepted: bool) -> bytes:
    """Build the answer to a password. After a refusal the server must close (RFC 1929 section 2)."""
    return bytes([PASSWORD_VERSION, 0 if accepted else 1])


def read_request(data: bytes) -> Read[SocksRequest] | Need:
    """
    Read a request.

    :raises UnknownAddressType: the address type is unknown.
    :raises WireError: the version is not 5, or the name is not a host name.
    """
    _check_version(data, VERSION, "SOCKS 5")
    if len(data) < 5:
        return Need(5)
    try:
        kind = _Kind(data[3])
    except ValueError:
        raise UnknownAddressType("a SOCKS request has an address of an unknown type") from None
    start, length = 4, 4 if kind is _Kind.IPV4 else 16
    if kind is _Kind.NAME:
        start, length = 5, data[4]
    end = start + length
    used = end + 2
    if len(data) < used:
        return Need(used)
    host = _name(data[start:end]) if kind is _Kind.NAME else str(ipaddress.ip_address(data[start:end]))
    port = int.from_bytes(data[end:used], "big")
    return Read(SocksRequest(data[1], InetAddress(unmapped(host), port)), used)


def build_reply(code: ReplyCode, bound: Address | None = None) -> bytes:
    """
    Build the answer to a request.

    :param bound: the local address of the server's connection. Anything but an IP address becomes
        ``0.0.0.0:0``, as most servers send it: clients need this field only for other commands.
    """
    packed, port = bytes(4), 0
    if isinstance(bound, InetAddress):
        try:
            packed = ipaddress.ip_address(bound.host.partition("%")[0]).packed
        except ValueError:
            pass
        else:
            port = bound.port
    kind = _Kind.IPV4 if len(packed) == 4 else _Kind.IPV6
    return bytes([VERSION, code, 0, kind]) + packed + port.to_bytes(2, "big")


def _check_version(data: bytes, version: int, what: str) -> None:
    if data and data[0] != version:
        raise WireError(f"this is not {what}")


def _name(text: bytes) -> str:
    """Read a host name, or an IP address that the client sent as a name."""
    name = text.decode("latin-1")
    try:
        # A zone (RFC 4007 section 11) is valid on one machine only, and `ipaddress` accepts any text as zone.
        if "%" not in name:
            return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _NAME.fullmatch(name) is None:
        raise WireError("a SOCKS request has a name that is no host name")
    return name.lower().removesuffix(".")
