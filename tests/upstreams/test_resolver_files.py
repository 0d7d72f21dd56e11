"""Tests of what resolv.conf and the hosts file say."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.resolver_files import (
    LOOK_AGAIN,
    MAX_ATTEMPTS,
    MAX_NDOTS,
    MAX_SEARCH,
    MAX_TIMEOUT,
    ResolverConfig,
    ResolverFiles,
    candidates,
    parse_hosts,
    parse_resolv_conf,
)


class ResolvConfTests(SynchronousTestCase):
    """resolv.conf(5)."""

    def test_all(self) -> None:
        """Servers, search domains and options; comments and what is unknown are passed over."""
        config = parse_resolv_conf(
            "# a comment\n; another\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\nnameserver name\n"
            "search example.com. corp.example.com\nsortlist 10.0.0.0\n"
            "options ndots:2 timeout:3 attempts:4 rotate ndots:x\n"
        )
        self.assertEqual(
            config,
            ResolverConfig(
                ("10.0.0.53", "fe80::1%eth0"),
                ("example.com", "corp.example.com"),
                ndots=2,
                timeout=3.0,
                attempts=4,
            ),
        )

    def test_defaults(self) -> None:
        """An empty file: the server of this machine, and the domain of its name."""
        self.assertEqual(parse_resolv_conf(""), ResolverConfig())
        self.assertEqual(parse_resolv_conf("", "host.example.com").search, ("example.com",))
        self.assertEqual(parse_resolv_conf("", "host").search, ())

    def test_last_of_domain_and_search(self) -> None:
        """The last one of both holds; a dot alone switches searching off."""
        self.assertEqual(parse_resolv_conf("search a b\ndomain c.\n").search, ("c",))
        self.assertEqual(parse_resolv_conf("domain c\nsearch .\n", "h.x").search, ())

    def test_bounds(self) -> None:
        """Numbers are capped, and so are servers and domains."""
        config = parse_resolv_conf(
            "options ndots:99 timeout:99 attempts:99\n"
            + "".join(f"nameserver 10.0.0.{index}\n" for index in range(9))
            + "search "
            + " ".join(f"d{index}" for index in range(99))
        )
        self.assertEqual(
            (config.ndots, config.timeout, config.attempts), (MAX_NDOTS, MAX_TIMEOUT, MAX_ATTEMPTS)
        )
        self.assertEqual((len(config.servers), len(config.search)), (3, MAX_SEARCH))
        least = parse_resolv_conf("options timeout:0 attempts:0\n")
        self.assertEqual((least.timeout, least.attempts), (1.0, 1))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """No text raises, and there is always a server to ask."""
        config = parse_resolv_conf(text)
        self.assertTrue(config.servers)
        parse_hosts(text)

    def test_candidates(self) -> None:
        """Few dots: the search list first; enough of them: the name first; a dot at the end: nothing else."""
        config = ResolverConfig(search=("a.example", "b.example"), ndots=1)
        self.assertEqual(candidates("db", config), ["db.a.example", "db.b.example", "db"])
        self.assertEqual(candidates("db.x", config), ["db.x", "db.x.a.example", "db.x.b.example"])
        self.assertEqual(candidates("db.", config), ["db"])
        self.assertEqual(candidates("db", ResolverConfig()), ["db"])


class HostsTests(SynchronousTestCase):
    """hosts(5)."""

    def test_names(self) -> None:
        """Several names a line, several lines a name, in any case; what is no address is passed over."""
        found = parse_hosts(
            "127.0.0.1 localhost  # comment\n::1\tlocalhost IP6-Loopback\n"
            "10.0.0.7 Db.Example db\nx y\n#1.2.3.4 z\n"
        )
        self.assertEqual(
            found,
            {
                "localhost": ["127.0.0.1", "::1"],
                "ip6-loopback": ["::1"],
                "db.example": ["10.0.0.7"],
                "db": ["10.0.0.7"],
            },
        )


class FilesTests(SynchronousTestCase):
    """`ResolverFiles`."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.now = 0.0
        self.hosts = self.directory / "hosts"
        self.conf = self.directory / "resolv.conf"

    def files(self) -> ResolverFiles:
        """Both."""
        return ResolverFiles(lambda: self.now, "h.example", str(self.conf), str(self.hosts))

    def test_read_again(self) -> None:
        """A change is seen after a while, and not looked for with every question."""
        self.hosts.write_text("10.0.0.1 db\n")
        self.conf.write_text("nameserver 10.0.0.53\n")
        files = self.files()
        self.assertEqual((files.addresses("DB."), files.config.servers), (["10.0.0.1"], ("10.0.0.53",)))
        self.hosts.write_text("10.0.0.22 db\n")
        self.conf.write_text("nameserver 10.0.0.54 \n")
        self.assertEqual((files.addresses("db"), files.config.servers), (["10.0.0.1"], ("10.0.0.53",)))
        self.now = LOOK_AGAIN
        self.assertEqual((files.addresses("db"), files.config.servers), (["10.0.0.22"], ("10.0.0.54",)))

    def test_gone(self) -> None:
        """A file that is not there says nothing; one that goes says what it said until it is back."""
        files = self.files()
        self.assertEqual((files.addresses("db"), files.config.search), ((), ("example",)))
        self.hosts.write_text("10.0.0.1 db\n")
        self.now += LOOK_AGAIN
        self.assertEqual(files.addresses("db"), ["10.0.0.1"])
        self.hosts.unlink()
        self.now += LOOK_AGAIN
        self.assertEqual(files.addresses("db"), ["10.0.0.1"])
        self.hosts.write_text("10.0.0.333 db\n10.0.0.3 db\n")
        self.now += LOOK_AGAIN
        self.assertEqual(files.addresses("db"), ["10.0.0.3"])

    def test_what_could_block(self) -> None:
        """A FIFO in the place of a file is not read."""
        os.mkfifo(self.hosts)
        self.assertEqual(self.files().addresses("db"), ())
