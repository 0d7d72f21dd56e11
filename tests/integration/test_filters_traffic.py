"""Filters that look at traffic or spoil it, on sessions of redis and nginx."""

from __future__ import annotations

import hashlib
import socket
import sys
import time
from pathlib import Path

from tests.integration.filter_case import LARGE, FilterCase
from tests.integration.forwarder import ROOT, TIMEOUT, Forwarder, wait_until
from tests.integration.programs import Program, needs, run
from tests.integration.servers import start_nginx, start_redis
from tests.ports import free_port

PORTFWD = "import sys; sys.argv[0] = 'portfwd'; from portfwd.cli.main import main; sys.exit(main())"
#: Seconds by which a chunk is late in the test of latency, in each direction.
DELAY = 0.06
LIMIT = 100_000


class RedisCase(FilterCase):
    """A redis, and its client."""

    def setUp(self) -> None:
        """The server."""
        super().setUp()
        self.redis = start_redis(self)

    def cli(self, through: Forwarder, rule: str, *words: str, data: bytes = b"") -> tuple[int, str]:
        """What ``redis-cli`` says by way of `rule`, with its exit code in front."""
        done = run(
            needs("redis-cli"), "-h", "127.0.0.1", "-p", str(through.port(rule)), *words,
            check=False, data=data,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).decode()

    def ask(self, socket: Path, *words: str) -> str:
        """What the server at `socket` says."""
        return run(needs("redis-cli"), "-s", str(socket), *words).stdout.decode().strip()


class FaultsTests(RedisCase):
    """``faults`` between redis and its client."""

    def test_latency(self) -> None:
        """Each question and each answer is late by what the rule says."""
        through = self.forwarder(
            self.rule("plain", f"unix:{self.redis}")
            + self.rule("late", f"unix:{self.redis}", f"filter faults latency delay={DELAY * 1000:g}ms")
        )
        times = {}
        for rule in ("plain", "late"):
            began = time.monotonic()
            self.assertEqual(self.cli(through, rule, data=b"PING\n" * 4), (0, "PONG\n" * 4))
            times[rule] = time.monotonic() - began
            self.expect()
        plain, late = self.closing_lines(through)
        self.assertGreaterEqual(times["late"], 4 * 2 * DELAY)
        self.assertLess(late.raw["duration"], 4 * 2 * DELAY + plain.raw["duration"] + 3)
        self.assertEqual((late.to_upstream, late.to_client), (plain.to_upstream, plain.to_client))

    def test_cut_off(self) -> None:
        """A limit of bytes cuts an answer, in order or by a reset; an age resets; and refusing is at once."""
        rules = (
            ("short", f"limit-data size={LIMIT} direction=down"),
            ("cut", f"limit-data size={LIMIT} direction=down abort=on"),
            ("aged", "reset after=300ms"),
            ("refused", "refuse"),
        )
        through = self.forwarder(
            "".join(self.rule(name, f"unix:{self.redis}", f"filter faults {fault}") for name, fault in rules)
        )
        run(needs("redis-cli"), "-s", str(self.redis), "-x", "SET", "big", data=b"v" * 1_000_000)
        for rule, words in (
            ("short", ("GET", "big")),
            ("cut", ("GET", "big")),
            ("aged", ("BLPOP", "nothing", "30")),
        ):
            code, said = self.cli(through, rule, *words)
            self.assertNotEqual(code, 0)
            self.assertIn("Server closed the connection" if rule == "short" else "reset by peer", said, rule)
            self.expect("FD")
        # Not redis-cli, which may try again.
        self.assertNotEqual(self.fetch(f"http://127.0.0.1:{through.port('refused')}/").facts["exitcode"], 0)
        self.expect_refused("FD", "refuse")
        short, cut, aged, _ = self.closing_lines(through)
        self.assertEqual(short.to_client, LIMIT)
        self.assertLessEqual(cut.to_client, LIMIT)
        self.assertGreaterEqual(aged.raw["duration"], 0.3)
        for line in (short, cut, aged):
            self.assertIn("fault ", line.raw["detail"])

    def test_slow_pieces(self) -> None:
        """Less bandwidth and smaller pieces: it takes as long as it must, and is whole."""
        value = bytes(range(256)) * 800
        through = self.forwarder(
            self.rule(
                "narrow",
                f"unix:{self.redis}",
                "filter faults slicer size=1000 variation=900 seed=3",
                "filter faults bandwidth rate=400KiB/s direction=up",
            )
        )
        began = time.monotonic()
        self.assertEqual(self.cli(through, "narrow", "-x", "SET", "value", data=value), (0, "OK\n"))
        self.assertGreater(time.monotonic() - began, 0.4)
        self.expect()
        got = run(needs("redis-cli"), "-p", str(through.port("narrow")), "GET", "value").stdout
        self.assertEqual(got, value + b"\n")
        self.expect()
        there, back = self.closing_lines(through)
        self.assertGreater(min(there.to_upstream, back.to_client), len(value))


class FaultsPairTests(FaultsTests):
    """The same over the pair."""

    relay_option = "pair"


class CopiesTests(RedisCase):
    """``hexdump``, ``tee`` and ``record`` together, and ``portfwd replay``."""

    def setUp(self) -> None:
        """A shadow, and one rule with all three."""
        super().setUp()
        self.shadow = start_redis(self, "shadow")
        self.file, self.record = self.directory / "sent.bin", self.directory / "redis.record"
        self.through: Forwarder = self.forwarder(
            self.rule(
                "db",
                f"unix:{self.redis}",
                "filter hexdump limit=48",
                f"filter tee to=unix:{self.shadow}",
                f"filter tee file={self.file}",
                f"filter record file={self.record}",
            )
        )

    def replay(self, *arguments: str) -> tuple[int, str]:
        """What ``portfwd replay`` says, with its exit code in front."""
        done = run(
            sys.executable, "-c", PORTFWD, "replay", str(self.record), *arguments,
            environment={"PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).decode()

    def test_copies(self) -> None:
        """The log shows the head, the shadow hears it all, files keep it, and a record can be played."""
        self.assertEqual(self.cli(self.through, "db", "SET", "name", "some value"), (0, "OK\n"))
        self.assertEqual(self.cli(self.through, "db", "GET", "name"), (0, "some value\n"))
        self.expect()
        self.expect()
        first = self.closing_lines(self.through)[0]
        sent = b"*3\r\n$3\r\nSET\r\n$4\r\nname\r\n$10\r\nsome value\r\n"
        self.assertEqual((first.to_upstream, first.to_client), (len(sent), 5))
        self.through.wait_for_line(r"db: session 1: > 00000000  2a 33 .*\|\*3\.\.\$3\.\.SET\.\.\$4\.\|$")
        self.through.wait_for_line(r"db: session 2: < 00000000  24 31 .*\|\$10\.\.some value\.\|$")
        wait_until(lambda: self.ask(self.shadow, "GET", "name") == "some value", TIMEOUT, lambda: "no shadow")
        kept = sent + b"*2\r\n$3\r\nGET\r\n$4\r\nname\r\n"
        wait_until(
            lambda: self.file.exists() and self.file.read_bytes() == kept,
            TIMEOUT,
            lambda: repr(self.file.read_bytes() if self.file.exists() else None),
        )
        for file in (self.file, self.record):
            self.assertEqual(file.stat().st_mode & 0o007, 0, f"{file} has bytes of users")
        wait_until(lambda: self.record.read_text().count('"closed"') == 2, TIMEOUT, self.record.read_text)
        # As the clients, to the server: it says the same as long as it is the same.
        fresh = start_redis(self, "fresh")
        code, said = self.replay("--to", f"unix:{fresh}", "--no-wait")
        self.assertEqual((code, said.count("the same")), (0, 2), said)
        self.assertEqual(self.ask(fresh, "GET", "name"), "some value")
        self.ask(fresh, "SET", "name", "another")
        code, said = self.replay("--to", f"unix:{fresh}", "--session", "2", "--no-wait")
        self.assertEqual(code, 1, said)
        self.assertIn("|$7..another..", said)
        # As the server, to a client.
        place = free_port()
        player = Program(
            [
                sys.executable,
                "-c",
                PORTFWD,
                "replay",
                str(self.record),
                "--listen",
                f"127.0.0.1:{place}",
                "--session",
                "2",
            ],
            self.directory / "player.log",
            environment={"PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(player.clean_up)
        player.wait_until(lambda: "listening" in player.log.read_text(), "the player")
        done = run(needs("redis-cli"), "-p", str(place), "GET", "name")
        self.assertEqual(done.stdout, b"some value\n")
        self.assertEqual(player.wait(), 0, player.log.read_text())
        self.assertIn("the same", player.log.read_text())

    def test_shadow_that_fails(self) -> None:
        """Nobody waits for a shadow that is gone, or takes nothing; lines in the log say so."""
        self.shadow.unlink()
        self.assertEqual(self.cli(self.through, "db", "PING"), (0, "PONG\n"))
        self.expect()
        self.through.wait_for_line(f"shadow unix:{self.shadow}: .*No such file.*; 14 bytes dropped so far$")
        deaf = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(deaf.close)
        name = f"127.0.0.1:{deaf.getsockname()[1]}"
        self.closing_lines(self.through)
        through = self.forwarder(self.rule("db", f"unix:{self.redis}", f"filter tee to={name}"))
        value = b"v" * LARGE
        self.assertEqual(self.cli(through, "db", "-x", "SET", "large", data=value), (0, "OK\n"))
        (line,) = self.closing_lines(through)
        self.assertGreater(line.to_upstream, LARGE)
        through.wait_for_line(f"shadow {name}: .* [0-9]+ bytes dropped so far$")


class CopiesPairTests(CopiesTests):
    """The same over the pair."""

    relay_option = "pair"


class SearchTests(RedisCase):
    """``replace`` and ``match``, on answers of nginx and questions to redis."""

    def setUp(self) -> None:
        """A web server."""
        super().setUp()
        self.web = free_port()
        self.www = start_nginx(self, [self.web], f"server {{ listen 127.0.0.1:{self.web}; }}")

    def test_replace(self) -> None:
        """Other bytes stand there, wherever chunks are cut; behind the last one nobody looks any more."""
        header = 'filter replace regex="Server: [^\\\\r]{1,80}" new="Server: nobody" direction=down count=1'
        through = self.forwarder(
            self.rule("once", f"127.0.0.1:{self.web}", header)
            + self.rule(
                "all", f"127.0.0.1:{self.web}", "filter replace find=secret new=SECRET direction=down"
            )
            + self.rule(
                "cut",
                f"127.0.0.1:{self.web}",
                header,
                "filter faults slicer size=3 direction=down",
            )
        )
        expected = self.write_large()
        body = b"".join(b"%d secret " % number for number in range(200_000))
        (self.www / "words").write_bytes(body)
        (self.www / "small").write_bytes(b"hello\n")
        head = self.directory / "head"
        once = self.fetch(f"http://127.0.0.1:{through.port('once')}/large", "-D", str(head))
        self.assertIn("Server: nobody\n", head.read_text())
        self.expect(fetched=once)
        all_of_them = self.fetch(f"http://127.0.0.1:{through.port('all')}/words")
        self.assertEqual(
            hashlib.sha256(all_of_them.body).digest(),
            hashlib.sha256(body.replace(b"secret", b"SECRET")).digest(),
        )
        self.expect(fetched=all_of_them)
        cut = self.fetch(f"http://127.0.0.1:{through.port('cut')}/small", "-D", str(head))
        self.assertEqual((cut.body, "Server: nobody\n" in head.read_text()), (b"hello\n", True))
        self.expect(fetched=cut)
        lines = self.closing_lines(through)
        self.assert_bulk(lines[0], once.body, expected)
        self.assertEqual(lines[1].raw["to_client"]["spliced"], 0)

    def test_match(self) -> None:
        """A word closes the session before it has passed, or is noted once; then nobody looks any more."""
        through = self.forwarder(
            self.rule(
                "strict", f"unix:{self.redis}", 'filter match find="DROP TABLE" action=close direction=up'
            )
            + self.rule(
                "noted",
                f"127.0.0.1:{self.web}",
                'filter match find="HTTP/1.1 200" count=1 show=on',
                "filter hexdump limit=8",
            )
        )
        self.assertEqual(self.cli(through, "strict", "SET", "a", "1"), (0, "OK\n"))
        self.expect()
        code, said = self.cli(through, "strict", "SET", "a", "DROP TABLE users")
        self.assertNotEqual(code, 0, said)
        self.expect("FD")
        self.assertEqual(self.ask(self.redis, "GET", "a"), "1")
        expected = self.write_large()
        got = self.fetch(f"http://127.0.0.1:{through.port('noted')}/large")
        self.expect(fetched=got)
        lines = self.closing_lines(through)
        self.assertIn("match", lines[1].raw["detail"])
        self.assert_bulk(lines[2], got.body, expected)
        through.wait_for_line(r"noted: session 3: match: 12 bytes at 0 to-client: HTTP/1\.1 200$")
        through.wait_for_line(r"noted: session 3: < 00000008  limit=8 is reached$")


class SearchPairTests(SearchTests):
    """The same over the pair."""

    relay_option = "pair"
