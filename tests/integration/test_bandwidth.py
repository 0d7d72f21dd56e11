"""``bandwidth=``: measured by what arrives, on real connections, while bytes stay in the kernel."""

from __future__ import annotations

import selectors
import socket
import time

from tests.integration.case import ForwarderCase, deep
from tests.integration.forwarder import Forwarder

MIB = 1024 * 1024
#: Seconds before the measurement: a burst has passed, and every buffer on the way is full.
WARM_UP = 0.6
#: Seconds of the measurement.
MEASURE = 2.0
#: How far a figure may be off: no more than the rate may ever pass, but a machine may stand still, and then
#: what waits in buffers passes at once. Only the deep profile has the machine to itself.
MORE, LESS = (1.1, 0.8) if deep() else (1.5, 0.2)
#: The same of the share of one of several sessions.
MORE_SHARE, LESS_SHARE = (1.4, 0.6) if deep() else (4.0, 0.1)


class Load:
    """
    Connections through a forwarder, whose both ends one loop pumps: bytes are zeros.

    :ivar got: bytes that arrived at each end, since the measurement began.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._ends: list[socket.socket] = []
        self.got: dict[socket.socket, int] = {}

    def connect(
        self, port: int, *, up: bool, down: bool, source: str = "127.0.0.1"
    ) -> tuple[socket.socket, socket.socket]:
        """Both ends of one more connection; `up` and `down` say which way it is full."""
        client = socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0))
        server, _ = self._listening.accept()
        for end, pushes in ((client, up), (server, down)):
            end.setblocking(False)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if pushes else 0)
            self._selector.register(end, events)
            self._ends.append(end)
        return client, server

    def pump(self, seconds: float) -> float:
        """Push and read as much as goes for so long; how long it really was."""
        self.got = dict.fromkeys(self._ends, 0)
        zeros = bytes(256 * 1024)
        began = time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            for key, events in self._selector.select(left):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                try:
                    if events & selectors.EVENT_READ:
                        self.got[end] += len(end.recv(MIB))
                    if events & selectors.EVENT_WRITE:
                        end.send(zeros)
                except BlockingIOError:
                    pass
        return time.monotonic() - began

    def rates(self) -> dict[socket.socket, float]:
        """Bytes a second at each end, once what was at hand at first has passed."""
        self.pump(WARM_UP)
        took = self.pump(MEASURE)
        return {end: count / took for end, count in self.got.items()}

    def close(self) -> None:
        """Reset everything that is open."""
        self._selector.close()
        ends, self._ends = self._ends, []
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.close()


class BandwidthTests(ForwarderCase):
    """Rates, of one session and of several."""

    def load(self, *options: str) -> tuple[Load, Forwarder]:
        """A forwarder with a rule for each of these options, and nothing connected to it."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        load = Load(listening)
        self.addCleanup(load.close)
        port = listening.getsockname()[1]
        names = ("case", *(f"case{number}" for number in range(1, len(options))))
        forwarder = self.forwarder(
            "".join(
                f"{name}: 127.0.0.1:0 -> 127.0.0.1:{port} {line}\n"
                for name, line in zip(names, options, strict=True)
            )
        )
        return load, forwarder

    def assert_rate(self, measured: float, expected: float, about: object = "") -> None:
        """Not more than allowed, and not much less."""
        self.assertTrue(LESS * expected <= measured <= MORE * expected, f"{measured / expected:.3f} {about}")

    def test_every_relay(self) -> None:
        """One session gets what the rule allows, whoever moves the bytes; bulk is spliced all the while."""
        relays = ("splice", "auto", "copy", "pair")
        load, forwarder = self.load(*(f"bandwidth=4MiB/s relay={relay}" for relay in relays))
        names = ("case", "case1", "case2", "case3")
        ends = [load.connect(forwarder.port(name), up=True, down=True) for name in names]
        rates = load.rates()
        for relay, both in zip(relays, ends, strict=True):
            for end in both:
                self.assert_rate(rates[end], 4 * MIB, relay)
        load.close()
        lines = {line.raw["rule"]: line.raw for line in forwarder.access_lines(4)}
        for name, relay in zip(names, relays, strict=True):
            for direction in ("to_upstream", "to_client"):
                flow = lines[name][direction]
                self.assertGreater(flow["paced"], 0, lines[name])
                if relay in ("splice", "auto"):
                    self.assertGreater(flow["share_spliced"], 0.5, lines[name])
                else:
                    self.assertEqual(flow["spliced"], 0)

    def test_slow(self) -> None:
        """A low rate is kept as well, and slices of a few bytes are spliced if that is asked for."""
        load, forwarder = self.load("bandwidth=100KiB/s relay=splice")
        client, _ = load.connect(forwarder.port("case"), up=False, down=True)
        self.assert_rate(load.rates()[client], 100 * 1024)
        load.close()
        (line,) = forwarder.access_lines(1)
        self.assertGreater(line.raw["to_client"]["share_spliced"], 0.9)

    def test_one_direction(self) -> None:
        """``bandwidth-up`` and ``bandwidth-down`` are each their direction's only."""
        load, forwarder = self.load("bandwidth-up=2MiB/s")
        client, server = load.connect(forwarder.port("case"), up=True, down=True)
        rates = load.rates()
        self.assert_rate(rates[server], 2 * MIB)
        self.assertGreater(rates[client], 2 * MORE * MIB)

    def test_together(self) -> None:
        """All sessions of a rule share, and each gets its share."""
        load, forwarder = self.load("bandwidth=4MiB/s")
        clients = [load.connect(forwarder.port("case"), up=False, down=True)[0] for _ in range(4)]
        rates = load.rates()
        self.assert_rate(sum(rates.values()), 4 * MIB)
        for client in clients:
            self.assertTrue(LESS_SHARE * MIB <= rates[client] <= MORE_SHARE * MIB, rates)

    def test_per_source(self) -> None:
        """Each client address has its own; two sessions of one share it."""
        load, forwarder = self.load("bandwidth-per-source=1MiB/s")
        port = forwarder.port("case")
        ends = [
            load.connect(port, up=False, down=True, source=source)[0]
            for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2")
        ]
        rates = load.rates()
        self.assert_rate(rates[ends[0]] + rates[ends[1]], MIB)
        self.assert_rate(rates[ends[2]], MIB)
        self.assertTrue(LESS_SHARE * MIB / 2 <= rates[ends[0]] <= MORE_SHARE * MIB / 2, rates)

    def test_per_connection(self) -> None:
        """Each connection has its own in each direction, whoever moves the bytes."""
        relays = ("splice", "auto", "copy", "pair")
        load, forwarder = self.load(*(f"bandwidth-per-connection=1MiB/s relay={relay}" for relay in relays))
        names = ("case", "case1", "case2", "case3")
        ends = [load.connect(forwarder.port(name), up=True, down=True) for name in names for _ in range(2)]
        rates = load.rates()
        for both in ends:
            for end in both:
                self.assert_rate(rates[end], MIB)

    def test_behind_a_filter(self) -> None:
        """Bytes that a filter sees are paced as well, and those that it has seen enough of are spliced."""
        clauses = {"case": "replace find=x new=y", "case1": "match regex=[^x] count=1"}
        load, forwarder = self.load(
            *(f"bandwidth=2MiB/s relay=splice\n    filter {clause}" for clause in clauses.values())
        )
        ends = [load.connect(forwarder.port(name), up=True, down=False) for name in clauses]
        rates = load.rates()
        for (_, server), clause in zip(ends, clauses.values(), strict=True):
            self.assert_rate(rates[server], 2 * MIB, clause)
        load.close()
        lines = {line.raw["rule"]: line.raw for line in forwarder.access_lines(2)}
        self.assertEqual(lines["case"]["to_upstream"]["spliced"], 0)
        self.assertGreater(lines["case1"]["to_upstream"]["spliced"], 0)
