"""
Ends through two rules in a row, joined by TCP, by our TLS, by Twisted's endpoints and their TLS, and paced.

The client of the first rule and the upstream of the second one see what they would see of one rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import trustme
from twisted.trial.unittest import SynchronousTestCase

from portfwd.values import SessionSummary, Side
from tests.ports import free_port
from tests.relay.stage import Session, Stage

C, U = Side.CLIENT, Side.UPSTREAM

#: How the two rules are joined.
PLAIN, TLS, ENDPOINT, SSL, PACED, COPIED = "plain", "tls", "endpoint", "ssl", "paced", "copied"
LINKS = (PLAIN, TLS, ENDPOINT, SSL, PACED, COPIED)


class ChainStage(Stage):
    """
    Each kind is a rule behind another one.

    :ivar behind: the closing lines of the second rules.
    """

    def __init__(self, directory: Path, options: str) -> None:
        self.behind: list[SessionSummary] = []
        authority = trustme.CA()
        self._pem = directory / "cert.pem"
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(self._pem)
        )
        super().__init__(options, kinds=LINKS)

    def rules(self, family: str, kind: str, listen: str, target: str, options: str) -> list[str]:
        """The two rules; only over TCP."""
        if family != "tcp":
            return []
        port = free_port()
        beyond, inner, more = f"127.0.0.1:{port}", f"127.0.0.1:{port}", ""
        if kind == TLS:
            beyond, inner = f"tls:{beyond}", f"tls:{inner} cert={self._pem}"
            listen_options = f"{options} verify=off"
        else:
            listen_options = options
        if kind == ENDPOINT:
            beyond = f'endpoint:"tcp:127.0.0.1:{port}"'
        elif kind == SSL:
            beyond = f'endpoint:"ssl:127.0.0.1:{port}"'
            inner = f'endpoint:"ssl:{port}:interface=127.0.0.1:privateKey={self._pem}"'
        elif kind == PACED:
            listen_options += " bandwidth=1GB"
            more = " bandwidth=1GB"
        elif kind == COPIED:
            listen_options += " relay=copy"
            more = " relay=copy"
        return [
            f"tcp-{kind}: {listen} -> {beyond} {listen_options}",
            f"behind-{kind}: {inner} -> {target} {options}{more}",
        ]

    def closed(self, summary: SessionSummary) -> None:
        """A session of either rule is over."""
        if summary.rule.startswith("behind"):
            self.behind.append(summary)
        else:
            super().closed(summary)


class ChainCase(SynchronousTestCase):
    """With a chain."""

    def stage(self, options: str) -> ChainStage:
        """One that is closed in the end."""
        directory = Path(self.mktemp())
        directory.mkdir()
        stage = ChainStage(directory.absolute(), options)
        self.addCleanup(stage.close)
        return stage

    def over(self, session: Session) -> None:
        """Close what the test made."""
        session.client.close()
        session.upstream.close()


class SlowReaderTests(ChainCase):
    """A reader slower than every limit loses nothing, wherever its bytes wait."""

    def links(self) -> Iterator[tuple[str, Side]]:
        """Every link, with either side as the reader."""
        for link in LINKS:
            for reader in Side:
                yield link, reader

    def test_behind_an_end(self) -> None:
        """
        It gets everything, then the end.

        20 KB a second: what a relay of TLS reads at once in bulk takes such a reader 50 seconds, so the other
        rule sees nothing move for that time.
        """
        stage = self.stage("half-close=10s linger=5s")
        for link, reader in self.links():
            if link == SSL and reader is U:
                continue  # Twisted's TLS has no half-close that way round: see below
            session = stage.play(link, "tcp", [(reader, "stop", 0), (reader.other, "send", 900_000)])
            session.do(reader.other, "end")
            got = session.peer(reader)
            for _ in range(60):
                if got.seen != "open":
                    break
                session.do(reader, "crawl", 60_000)
                stage.settle(session, 3.0)
            what = f"{link} {reader} {session.line} {stage.behind[-1:]}"
            self.assertEqual((len(got.received), got.seen), (900_000, "end"), what)
            session.do(reader, "end")
            stage.settle(session)
            assert session.line is not None, what
            self.assertEqual(str(session.line.reason), "--", what)
            self.over(session)


class NobodyReadsTests(ChainCase):
    """A client whose upstream is gone learns it through both rules."""

    def test_goes_on_sending(self) -> None:
        """It has the whole answer and the end, then its writes fail, long before linger is over."""
        stage = self.stage("linger=1000s half-close=1000s")
        for link in LINKS:
            session = stage.play(link, "tcp", [(U, "stop", 0), (C, "send", 5_000), (U, "send", 20_000)])
            session.do(U, "end")
            session.upstream.act()
            stage.settle(session, 0.0)
            session.do(U, "close")
            stage.settle(session, 0.0)
            for _ in range(3):
                session.do(C, "send", 1_000)
                stage.settle(session)
            what = f"{link} {session.line} {stage.behind[-1:]}"
            self.assertEqual((len(session.client.received), session.client.seen), (20_000, "end"), what)
            self.assertTrue(session.client.broken, what)
            self.assertIsNotNone(session.line, what)
            self.over(session)
