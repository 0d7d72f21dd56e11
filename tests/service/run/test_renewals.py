"""Tests of what a reload says of rules whose text is the same, and whose files or sockets are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from portfwd.filters.builtin.users import hash_password
from portfwd.service.run.renewals import MOST_NAMED
from tests.places import short_directory
from tests.service.pems import CA, OTHER_CA, directory_of, write_authority, write_pair
from tests.service.run.test_reload import ReloadCase


class RenewalTests(ReloadCase):
    """A forwarder whose rules stay."""

    def setUp(self) -> Any:
        """Files."""
        self.directory: Path = directory_of(self)
        self.cert, self.key = write_pair(self.directory, "a", CA.issue_cert("a.example"))
        self.ca = write_authority(self.directory)
        return super().setUp()

    async def test_certificates(self) -> None:
        """Files of listeners, targets and filters that were replaced are named, also by a dry run."""
        terminate = f"filter starttls-postgres terminate cert={self.cert} key={self.key}"
        text = (
            f"web: tls:127.0.0.1:0 cert={self.cert} key={self.key} -> {self.target}\n"
            f"out: 127.0.0.1:0 -> tls:{self.target} ca={self.ca}\n"
            f"db: 127.0.0.1:0 -> {self.target}\n    {terminate}\n"
        )
        forwarder = self.started(text)
        self.assertEqual(str(await self.applied(forwarder, text)), "nothing is different")
        write_pair(self.directory, "a", CA.issue_cert("new.example"))
        write_authority(self.directory, OTHER_CA)
        told = [
            "the rules are the same",
            f"~ web: certificates read again: {self.cert}, {self.key}",
            f"~ out: certificates read again: {self.ca}",
            f"~ db: certificates read again: {self.cert}, {self.key}",
        ]
        tried = await self.reload(forwarder, text, dry_run=True)
        self.assertEqual(list(tried.lines()), [f"dry run: {told[0]}", *told[1:]])
        self.assertEqual(list((await self.applied(forwarder, text)).lines()), told)
        self.assertEqual(str(await self.applied(forwarder, text)), "nothing is different")

    async def test_directory(self) -> None:
        """Of many files the first are named; those that were removed are, too."""
        text = f"web: tls:127.0.0.1:0 cert={self.directory / 'd'} -> {self.target}\n"
        (self.directory / "d").mkdir()
        write_pair(self.directory / "d", "0", CA.issue_cert("0.example"))
        forwarder = self.started(text)
        for number in range(1, MOST_NAMED):
            write_pair(self.directory / "d", str(number), CA.issue_cert(f"{number}.example"))
        (line,) = list((await self.applied(forwarder, text)).lines())[1:]
        self.assertTrue(line.endswith(f", and {2 * (MOST_NAMED - 1) - MOST_NAMED} more"), line)
        for end in (".pem", ".key"):
            (self.directory / "d" / f"1{end}").unlink()
        (line,) = list((await self.applied(forwarder, text)).lines())[1:]
        self.assertEqual(line.count("/d/1."), 2, line)

    async def test_filter(self) -> None:
        """A filter whose file has changed is made again."""
        users = self.directory / "users"
        users.write_text(hash_password("alice", "secret", bytes(16), 1000) + "\n")
        text = f"a: 127.0.0.1:0 -> {self.target}\n    filter socks5 users={users}\n    filter hexdump\n"
        forwarder = self.started(text)
        self.assertEqual((await self.applied(forwarder, text)).renewed, ())
        users.write_text(hash_password("bob", "other", bytes(16), 1000) + "\n")
        result = await self.applied(forwarder, text)
        self.assertEqual(
            list(result.lines())[1:], ["~ a: made again, as its files or code are different: filter socks5"]
        )

    async def test_changed_rule(self) -> None:
        """A rule whose text has changed has a line for that."""
        text = f"web: tls:127.0.0.1:0 cert={self.cert} key={self.key} -> {self.target}"
        forwarder = self.started(text)
        write_pair(self.directory, "a", CA.issue_cert("new.example"))
        result = await self.applied(forwarder, f"{text} idle=1h")
        self.assertEqual(result.renewed, ())

    async def test_name(self) -> None:
        """A listener whose name has another address."""
        resolver = self.resolving("127.0.0.1")
        text = f"a: localhost:0 -> {self.target}\n"
        forwarder = self.started(text)
        resolver.found = ("127.0.0.2",)
        result = await self.applied(forwarder, text)
        self.assertEqual(str(result), "the rules are the same")
        (line,) = result.renewed
        self.assertRegex(line, r"a: listens on 127\.0\.0\.2:\d+, no longer on ")

    async def test_unix(self) -> None:
        """A unix socket whose file was removed."""
        path = f"{short_directory(self)}/s"
        text = f"a: unix:{path} -> {self.target}\n"
        forwarder = self.started(text)
        os.unlink(path)
        result = await self.applied(forwarder, text)
        self.assertEqual(result.renewed, ("a: its socket is made again",))
        self.assertEqual(str(await self.applied(forwarder, text)), "nothing is different")
