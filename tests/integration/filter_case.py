"""The test case for filters at work: rules with clauses, curl and what it knows, closing lines one by one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from attrs import frozen

from portfwd.testing.data import Pattern
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import AccessLine, Forwarder
from tests.integration.programs import needs, run

#: Bytes of a large download: many times what sockets, buffers and pipes hold.
LARGE = 20_000_000
#: How sessions of TLS end: who has said that he goes may reset what the other still says (``close_notify``).
TLS_ENDS = ("--", "CD", "SD", "CH", "SH")


@frozen
class Fetched:
    """
    What curl got.

    :ivar body: of the answer.
    :ivar facts: all it says of the transfer (``--write-out '%{json}'``).
    """

    body: bytes
    facts: dict[str, Any]

    @property
    def client(self) -> str:
        """The address that it connected from."""
        return f"{self.facts['local_ip']}:{self.facts['local_port']}"

    @property
    def request_size(self) -> int:
        """Bytes of the request. ``size_request`` of curl 7.88 is its head, that of 8.14 has the body too."""
        head, body = int(self.facts["size_request"]), int(self.facts["size_upload"])
        return head if head > body else head + body

    @property
    def answer_size(self) -> int:
        """Bytes of the whole answer."""
        return int(self.facts["size_header"]) + int(self.facts["size_download"])


@frozen
class Expected:
    """
    What the closing line of a session should say.

    :ivar reasons: those that are right.
    :ivar fetched: what curl sent and got are the session's counts; None: not looked at.
    :ivar refused: nobody was reached, and `detail` is part of why.
    """

    reasons: tuple[str, ...]
    fetched: Fetched | None = None
    refused: bool = False
    detail: str = ""


class FilterCase(ForwarderCase):
    """
    A test of filters between real programs.

    Closing lines are written late. So what they should say is noted, session by
    session, with `expect` and `expect_refused`, and `closing_lines` looks at them all.
    """

    def setUp(self) -> None:
        """Nothing is expected yet."""
        super().setUp()
        self._expected: list[Expected] = []

    def rule(self, name: str, target: object, *clauses: str, listen: str = "127.0.0.1:0") -> str:
        """The text of a rule over the relay that this class is about, with its clauses beneath it."""
        lines = [f"{name}: {listen} -> {target} {self.options()}", *(f"    {clause}" for clause in clauses)]
        return "".join(f"{line}\n" for line in lines)

    def fetch(self, url: str, *arguments: str) -> Fetched:
        """What curl gets from `url`, whatever comes of it."""
        body = self.directory / "body.got"
        body.unlink(missing_ok=True)
        done = run(
            needs("curl"), "-sS", "--max-time", "50", "-o", str(body), "-w", "%{json}", *arguments, url,
            check=False,
        )  # fmt: skip
        return Fetched(body.read_bytes() if body.exists() else b"", json.loads(done.stdout))

    def expect(self, *reasons: str, fetched: Fetched | None = None) -> None:
        """The next session ends for one of `reasons`, in order unless said."""
        self._expected.append(Expected(reasons or ("--",), fetched))

    def expect_refused(self, reason: str, detail: str = "") -> None:
        """The next session reaches no upstream."""
        self._expected.append(Expected((reason,), None, True, detail))

    def closing_lines(self, forwarder: Forwarder) -> list[AccessLine]:
        """The lines of all sessions, in the order in which they opened: as expected, and no more."""
        lines = sorted(forwarder.access_lines(len(self._expected)), key=lambda line: int(line.raw["id"]))
        for line, expected in zip(lines, self._expected, strict=True):
            said = str(line.raw)
            self.assertIn(line.reason, expected.reasons, said)
            if expected.fetched is not None:
                counts = expected.fetched.facts["size_request"], expected.fetched.answer_size
                self.assertEqual((line.to_upstream, line.to_client), counts, said)
            if expected.refused:
                self.assertEqual((line.to_upstream, line.raw["connect_time"]), (0, None), said)
                self.assertIn(expected.detail, line.raw["detail"])
            if line.relay and self.relay_option == "pair":
                self.assertEqual(line.relay, "pair")
        return lines

    def write_large(self, name: str = "www/large") -> str:
        """A large file at `name`; its hash."""
        data = Pattern(7).slice(0, LARGE)
        (self.directory / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def assert_bulk(self, line: AccessLine, body: bytes, expected: str) -> None:
        """
        A large download came whole, and in the kernel, unless this class is about the pair.

        In part at least: how much comes between two reads, and so is copied or spliced, is a matter of time.
        """
        self.assertEqual(hashlib.sha256(body).hexdigest(), expected)
        share = line.raw["to_client"]["share_spliced"]
        if self.relay_option == "pair":
            self.assertEqual(share, 0)
        else:
            self.assertGreater(share, 0, str(line.raw))
