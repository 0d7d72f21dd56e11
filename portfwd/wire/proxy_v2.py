# -*- test-case-name: tests.wire.test_proxy_v2 -*-
"""
PROXY headers of version 2: sixteen bytes, the addresses, and TLVs (PROXY section 2.2).

A header always has 16 + len bytes and is read as a whole. These are checked: version 2, command LOCAL or
PROXY, known families and protocols, enough bytes for the addresses of the family, TLVs that end with the
header, and the checksum if there is one. Everything else is an error.

With an unspecified family or protocol, which is allowed, the addresses of the socket remain valid.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final

from portfwd.values import Address, InetAddress, UnixAddress, unmapped
from portfwd.wire.crc32c import crc32c
from portfwd.wire.proxy_header import MAX_HEADER, Header, inet_pair, unix_pair
from portfwd.wire.proxy_tlvs import CRC32C, NOOP, Tlvs, build_tlvs, read_tlvs
from portfwd.wire.reading import Need, Read, TooLong, WireError

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

#: Bytes of the fixed part: signature, version and command, family and protocol, length.
FIXED: Final = 16

_VERSION: Final = 2
_LOCAL: Final = 0
_PROXY: Final = 1


class _Family(enum.IntEnum):
    """The address family: the upper half of byte 13."""

    UNSPEC = 0
    INET = 1
    INET6 = 2
    UNIX = 3


class _Protocol(enum.IntEnum):
    """The transport protocol: the lower half of byte 13."""

    UNSPEC = 0
    STREAM = 1
    DGRAM = 2


#: Bytes of one address of a family, without its port.
_WIDTH: Final = {_Family.UNSPEC: 0, _Family.INET: 4, _Family.INET6: 16, _Family.UNIX: 108}
#: Bytes of both addresses of a family, with their ports.
_ADDRESSES: Final = {_Family.UNSPEC: 0, _Family.INET: 12, _Family.INET6: 36, _Family.UNIX: 216}
_CHECKSUM: Final = 4
#: Bytes of type and length before the value of a TLV.
_TLV_HEAD: Final = 3


def read_v2(data: bytes) -> Read[Header] | Need:
    """
    Read a header at the start of `data`.

    :raises WireError: the header is missing or malformed.
    :raises TooLong: the header has more than `MAX_HEADER` bytes.
    """
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise WireError("this does not begin with a PROXY header of version 2")
    if len(data) < FIXED:
        return Need(FIXED)
    version, command = data[12] >> 4, data[12] & 0xF
    if version != _VERSION:
        raise WireError("a binary PROXY header is of version 2 only")
    if command not in (_LOCAL, _PROXY):
        raise WireError("the command of a PROXY header is LOCAL or PROXY")
    # "the length of the protocol header in bytes is always exactly 16 + this value"
    length = int.from_bytes(data[14:16], "big")
    total = FIXED + length
    if total > MAX_HEADER:
        raise TooLong(f"a PROXY header has at most {MAX_HEADER} bytes here")
    if command == _LOCAL:
        # "The receiver must accept this connection as valid and must use the real connection endpoints and
        # discard the protocol block including the family which is ignored."
        return Need(total) if len(data) < total else Read(Header(local=True), total)
    try:
        family, protocol = _Family(data[13] >> 4), _Protocol(data[13] & 0xF)
    except ValueError:
        raise WireError("a PROXY header has a family or protocol that does not exist") from None
    if length < _ADDRESSES[family]:
        raise WireError("a PROXY header is too short for the addresses of its family")
    if len(data) < total:
        return Need(total)
    if family is _Family.UNSPEC:
        # The length of the addresses is not known, so the TLVs after them cannot be found.
        return Read(Header(), total)
    tlvs = _check(data[:total], read_tlvs(data[FIXED + _ADDRESSES[family] : total]), _ADDRESSES[family])
    if protocol is _Protocol.UNSPEC:
        return Read(Header(tlvs=tlvs), total)
    source, destination = _addresses(family, data[FIXED : FIXED + _ADDRESSES[family]])
    return Read(Header(source, destination, tlvs, protocol is _Protocol.DGRAM), total)


def _check(header: bytes, tlvs: Tlvs, addresses: int) -> Tlvs:
    """
    Verify the checksum, if there is one.

    :returns: `tlvs` without the checksum and without padding.
    """
    position = FIXED + addresses
    found = None
    for kind, value in tlvs:
        position += _TLV_HEAD
        if kind == CRC32C:
            if found is not None:
                raise WireError("a PROXY header has one checksum")
            found = position
        position += len(value)
    kept = tuple(tlv for tlv in tlvs if tlv[0] not in (CRC32C, NOOP))
    if found is None:
        return kept
    # "replace the 32 bits of the checksum field in the received PROXY header with all '0's and calculate a
    # CRC32c checksum value of the whole PROXY header"
    end = found + _CHECKSUM
    expected = crc32c(header[:found] + bytes(_CHECKSUM) + header[end:])
    if int.from_bytes(header[found:end], "big") != expected:
        raise WireError("the checksum of a PROXY header is wrong")
    return kept


def _addresses(family: _Family, block: bytes) -> tuple[Address, Address]:
    """Read source and destination from an address block, whose length was checked."""
    width = _WIDTH[family]
    first, second = block[:width], block[width : 2 * width]
    if family is _Family.UNIX:
        return _unix(first), _unix(second)
    ports = block[2 * width :]
    return (
        InetAddress(_host(first), int.from_bytes(ports[:2], "big")),
        InetAddress(_host(second), int.from_bytes(ports[2:], "big")),
    )


def _host(packed: bytes) -> str:
    return unmapped(str(ipaddress.ip_address(packed)))


def _unix(field: bytes) -> UnixAddress:
    """Read the name in a ``sun_path``: it ends at the first NUL, but an abstract name begins with one."""
    if field[:1] == b"\0" and field.strip(b"\0"):
        name = b"@" + field[1:].rstrip(b"\0")
    else:
        name = field.partition(b"\0")[0]
    return UnixAddress(name.decode("utf-8", "surrogateescape"))


def _sun_path(address: UnixAddress) -> bytes:
    """Build a ``sun_path``. If the name is too long it is empty: a cut name is that of another socket."""
    name = address.sockaddr.encode("utf-8", "surrogateescape")
    width = _WIDTH[_Family.UNIX]
    return name.ljust(width, b"\0") if len(name) <= width else bytes(width)


def build_v2(header: Header, *, checksum: bool = False) -> bytes:
    """
    Build a header.

    The family is unspecified if an address is unknown or a name, or if one is an IP address and the other a
    unix socket.

    :param checksum: add a checksum as the last TLV.
    :raises ValueError: the TLVs are too long for a header.
    """
    protocol = _Protocol.DGRAM if header.datagram else _Protocol.STREAM
    inet = inet_pair(header.source, header.destination)
    unix = unix_pair(header.source, header.destination)
    block = b""
    if header.local:
        family = _Family.UNSPEC
    elif inet is not None:
        assert isinstance(header.source, InetAddress)
        assert isinstance(header.destination, InetAddress)
        family = _Family.INET if inet[0].version == 4 else _Family.INET6
        block = inet[0].packed + inet[1].packed
        block += header.source.port.to_bytes(2, "big") + header.destination.port.to_bytes(2, "big")
    elif unix is not None:
        family = _Family.UNIX
        block = _sun_path(unix[0]) + _sun_path(unix[1])
    else:
        family = _Family.UNSPEC
    if family is _Family.UNSPEC:
        protocol = _Protocol.UNSPEC
    tlvs = build_tlvs((*header.tlvs, (CRC32C, bytes(_CHECKSUM))) if checksum else header.tlvs)
    length = len(block) + len(tlvs)
    if length > 0xFFFF:
        raise ValueError("the TLVs of a PROXY header are too long for its length field")
    command = _LOCAL if header.local else _PROXY
    fixed = bytes([_VERSION << 4 | command, family << 4 | protocol]) + length.to_bytes(2, "big")
    built = SIGNATURE + fixed + block + tlvs
    if not checksum:
        return built
    return built[:-_CHECKSUM] + crc32c(built).to_bytes(_CHECKSUM, "big")
