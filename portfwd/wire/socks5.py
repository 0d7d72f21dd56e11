# -*- test-case-name: tests.wire.test_socks5 -*-
"""
SOCKS version 5 as a server reads and writes it: greeting, password, request, replies (RFC 1928, RFC 1929).

The messages only; who may do what, and in which order they come, is for whoever
calls. Every message says its length early, so a reader never looks further than
it has to. It refuses other versions, and names that DNS could not have.
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
#: Of the password sub-negotiation (RFC 1929 section 2).
PASSWORD_VERSION: Final = 1

#: Methods of authentication (RFC 1928 section 3).
NO_AUTHENTICATION: Final = 0x00
PASSWORD: Final = 0x02
NO_ACCEPTABLE_METHOD: Final = 0xFF

CONNECT: Final = 1

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class ReplyCode(enum.IntEnum):
    """What became of a request (RFC 1928 section 6)."""

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
    """Types of addresses (RFC 1928 section 5)."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


class UnknownAddressType(WireError):
    """A request whose address is of a type that does not exist: `ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED`."""


@frozen
class Credentials:
    """
    A name and a password, as bytes: RFC 1929 says nothing of their encoding.

    Neither is shown when this is printed.
    """

    name: bytes
    password: bytes

    def __repr__(self) -> str:
        return "<Credentials>"


@frozen
class SocksRequest:
    """
    What the client wants.

    :ivar command: `CONNECT`, or one that is not served here.
    :ivar destination: literals in their shortest form; an IPv4 address as one, whatever type it came in.
    """

    command: int
    destination: InetAddress


def read_greeting(data: bytes) -> Read[frozenset[int]] | Need:
    """
    Read the first message: the methods of authentication that the client offers.

    :raises WireError: it is of another version, or offers nothing.
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

    Empty ones are read too, though the RFC begins at one byte: clients without a password send them.

    :raises WireError: it is of another version.
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
    """Build the answer to a password; the server closes behind a refusal (RFC 1929 section 2)."""
    return bytes([PASSWORD_VERSION, 0 if accepted else 1])


def read_request(data: bytes) -> Read[SocksRequest] | Need:
    """
    Read a request.

    :raises UnknownAddressType: see there.
    :raises WireError: it is of another version, or its name is none.
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

    :param bound: the address that the server uses; anything but an IP address is said to be ``0.0.0.0:0``,
        as most servers do: clients need it for commands that are not served here.
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
    """A name, or an address that a client wrote as one."""
    name = text.decode("latin-1")
    try:
        # A zone (RFC 4007 section 11) means nothing on another machine, and `ipaddress` takes any text.
        if "%" not in name:
            return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _NAME.fullmatch(name) is None:
        raise WireError("a SOCKS request has a name that is no host name")
    return name.lower().removesuffix(".")
