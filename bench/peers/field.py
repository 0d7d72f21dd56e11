# -*- test-case-name: tests.bench.test_peers -*-
"""The list of contestants, and who of them is there."""

from __future__ import annotations

from pathlib import Path

from bench.compared import SUFFIX
from bench.peers.api import AbsentError, Peer
from bench.peers.direct import Direct
from bench.peers.haproxy import HAProxy, HAProxySplice
from bench.peers.nginx import Nginx, NginxSmall
from bench.peers.portfwd import (
    Portfwd,
    PortfwdChecked,
    PortfwdCopy,
    PortfwdDoneFilter,
    PortfwdMixed,
    PortfwdOneFilter,
    PortfwdPair,
    PortfwdSplice,
    PortfwdThreeFilters,
)
from bench.peers.rinetd import Rinetd
from bench.peers.socat import Socat
from bench.peers.stock import Stock
from bench.peers.tls import (
    HAProxyTLSIn,
    HAProxyTLSOut,
    NginxTLSIn,
    NginxTLSOut,
    PortfwdTLSIn,
    PortfwdTLSOut,
)


def contestants(scratch: Path) -> tuple[Peer, ...]:
    """
    All there are, in the order of the tables.

    :param scratch: folder in which a peer may write what it needs to say whether it can take part.
    """
    return (
        Direct(),
        Portfwd(scratch),
        PortfwdSplice(scratch),
        PortfwdCopy(scratch),
        PortfwdPair(scratch),
        PortfwdDoneFilter(scratch),
        PortfwdOneFilter(scratch),
        PortfwdThreeFilters(scratch),
        PortfwdMixed(scratch),
        PortfwdChecked(scratch),
        Stock(),
        HAProxySplice(),
        HAProxy(),
        Nginx(),
        NginxSmall(),
        Rinetd(),
        Socat(),
        PortfwdTLSIn(scratch),
        NginxTLSIn(),
        HAProxyTLSIn(),
        PortfwdTLSOut(scratch),
        NginxTLSOut(),
        HAProxyTLSOut(),
    )


def beside(peers: tuple[Peer, ...], scratch: Path, root: Path) -> tuple[Peer, ...]:
    """
    `peers`, those of this project each followed by the same one from another checkout.

    :param root: the other checkout; its contestants have the names of `bench.compared.other`.
    """
    found: list[Peer] = []
    for peer in peers:
        found.append(peer)
        if isinstance(peer, Portfwd):
            found.append(type(peer)(scratch, root, SUFFIX))
    return tuple(found)


def present(peers: tuple[Peer, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """
    Ask each for its version.

    :returns: versions by name of those that are there, reasons by name of those that are not.
    """
    versions: dict[str, str] = {}
    absent: dict[str, str] = {}
    for peer in peers:
        try:
            versions[peer.name] = peer.version()
        except AbsentError as error:
            absent[peer.name] = str(error)
    return versions, absent
