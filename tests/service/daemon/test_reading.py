"""Tests of `portfwd.service.daemon.reading`: files that are none, and files that do not answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from portfwd.admin import tight_files
from portfwd.admin.tight_files import LooseFile, read_tight
from portfwd.errors import RulesError
from portfwd.filters.builtin.users import read_users
from portfwd.filters.option_kinds import file_of
from portfwd.rules import load
from portfwd.rules.load import parse
from portfwd.rules.steps import finish
from portfwd.service.build.filters import DISK
from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.daemon.reading import (
    FILE_OPTIONS,
    READ_TIME,
    CachedFiles,
    files_of,
    fill_page_cache,
    in_thread,
    read_in_thread,
)
from portfwd.service.daemon.regular import read_regular
from portfwd.service.tls.certificates import read_pair
from portfwd.upstreams import resolver_files
from tests.service.run.test_rereading import RereadingCase


class RegularTests(SynchronousTestCase):
    """What is read, and what is not."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def fifo(self) -> str:
        """A FIFO that nobody writes to."""
        path = os.fspath(self.directory / "fifo")
        if not os.path.exists(path):
            os.mkfifo(path)
        return path

    def test_regular(self) -> None:
        """The bytes of a file, one more than the bound at most."""
        path = self.directory / "file"
        path.write_bytes(b"x" * 10)
        self.assertEqual(read_regular(os.fspath(path)), b"x" * 10)
        self.assertEqual(read_regular(os.fspath(path), 3), b"x" * 4)

    def test_others(self) -> None:
        """A FIFO, a device and a directory are refused and not waited for."""
        for path in (self.fifo(), "/dev/zero", os.fspath(self.directory)):
            self.assertRaises(OSError, read_regular, path)

    def test_every_reader(self) -> None:
        """No reader of files waits for a FIFO: rules, includes, certificates, keys, users, keys of shells."""
        fifo = self.fifo()
        including = self.directory / "rules.conf"
        including.write_text(f"include {os.path.abspath(fifo)}\n:1 -> a:1\n")
        readers: list[Callable[[], object]] = [
            partial(load, fifo, DiskFiles()),
            partial(load, os.fspath(including), DiskFiles()),
            partial(read_pair, fifo, None),
            partial(file_of(read_users).load, DISK, fifo),
            partial(read_tight, fifo),
        ]
        for read in readers:
            try:
                read()
            except (OSError, ValueError, RulesError, LooseFile):
                continue
            self.fail(f"{read} read a FIFO")

    def test_no_data(self) -> None:
        """A file without data, which is regular by its mode, such as /proc/kmsg, is an error."""
        fifo = self.fifo()
        for end in (os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), os.open(fifo, os.O_WRONLY)):
            self.addCleanup(os.close, end)
        self.patch(tight_files, "check_directories", lambda path: None)
        with mock.patch("stat.S_ISREG", lambda mode: True):
            for read in (read_regular, read_tight, resolver_files.read_start):
                problem = self.assertRaises(OSError, read, fifo)
                self.assertIn("it has no data now", str(problem))

    def test_touch(self) -> None:
        """What cannot be read is passed over; the files of a directory are read."""
        (self.directory / "a").write_text("a")
        self.fifo()
        fill_page_cache([os.fspath(self.directory), "/nowhere", "a\0b", self.fifo()])


class FilesOfTests(SynchronousTestCase):
    """Which files rules name."""

    def test_files(self) -> None:
        """Those of TLS on both sides, and whatever a filter was told."""
        ruleset = parse(
            "a: tls::1 cert=c key=k client-ca=l -> tls:x:1 ca=m client-cert=n client-key=o\n"
            "    filter socks5 users=p\n",
            "f",
        )
        self.assertEqual(set(finish(files_of(ruleset))), set("cklmnop"))

    def test_options(self) -> None:
        """Passwords and revocation lists are among them; a key log is written and not read."""
        self.assertLessEqual({"key_password_file", "crl", "client_ca"}, FILE_OPTIONS)
        self.assertNotIn("keylog", FILE_OPTIONS)


class ThreadTests(SynchronousTestCase):
    """Calls that do not come back."""

    def test_late(self) -> None:
        """A call that takes too long fails; what it says afterwards is not listened to."""
        clock: Any = Clock()
        calls: list[Callable[[], None]] = []
        go, gone = threading.Event(), threading.Event()

        def hang() -> str:
            go.wait()
            return "late"

        def from_thread(call: Callable[..., None], *arguments: object) -> None:
            calls.append(partial(call, *arguments))
            gone.set()

        clock.callFromThread = from_thread
        done = in_thread(clock, hang)
        clock.advance(READ_TIME - 0.1)
        self.assertNoResult(done)
        clock.advance(0.1)
        self.failureResultOf(done, TimeoutError)
        go.set()
        gone.wait()
        for call in calls:
            call()


class CachedFilesTests(TestCase):
    """Rules files that a thread has read."""

    async def test_included(self) -> None:
        """A file and all that it includes are read in a thread, and once; others when they are asked for."""
        texts = {
            "main": "\ufeffinclude a*\n:1 -> b:1\n  include b # more\ninclude \"unclosed\n",
            "a1": "include main\n",
            "a2": "", "b": "include gone\n", "other": "x",
        }  # fmt: skip
        threads: list[threading.Thread] = []

        class Files:
            def read(self, path: str) -> str:
                threads.append(threading.current_thread())
                if path not in texts:
                    raise FileNotFoundError(2, "none", path)
                return texts[path]

            def glob(self, pattern: str, beside: str) -> list[str]:
                threads.append(threading.current_thread())
                return ["a1", "a2"] if pattern == "a*" else [pattern]

            def port_of_service(self, name: str, protocol: str) -> int | None:
                return 80

        before: CachedFiles = await read_in_thread(reactor, "main", Files())  # type: ignore[arg-type]
        self.assertNotIn(threading.main_thread(), threads)
        count = len(threads)
        self.assertEqual([before.read(one) for one in ("main", "a1", "a2", "b")], list(texts.values())[:4])
        self.assertRaises(FileNotFoundError, before.read, "gone")
        self.assertEqual((before.glob("a*", "main"), before.port_of_service("x", "tcp")), (["a1", "a2"], 80))
        self.assertEqual(len(threads), count)
        self.assertEqual((before.read("other"), before.glob("c", "main")), ("x", ["c"]))


class RereadingTests(RereadingCase):
    """Reloads of files that do not answer."""

    async def test_fifo(self) -> None:
        """A FIFO in the place of an include, or of the rules file itself, refuses the reload."""
        forwarder, again = self.running()
        os.mkfifo("fifo.conf")
        result = await self.reread(again, self.first + "include fifo.conf\n")
        self.assertIn("it is not a regular file", "".join(result.failures))
        os.replace("fifo.conf", "rules.conf")
        result = await again.reload()
        self.assertIn("it is not a regular file", "".join(result.failures))
        self.assertEqual([live.name for live in forwarder.rules], ["a"])

    async def test_hanging(self) -> None:
        """A file server that does not answer refuses the reload in a bounded time, and stops nothing."""
        import portfwd.service.daemon.reading as module

        go = threading.Event()
        self.addCleanup(go.set)
        forwarder, again = self.running()
        self.patch(module.in_thread, "__defaults__", (0.05,))
        for where in ("DiskFiles.read", "reading.read_regular"):
            target = (
                f"portfwd.service.daemon.disk.{where}"
                if where.startswith("Disk")
                else f"portfwd.service.daemon.{where}"
            )
            text = (
                self.first
                if where.startswith("Disk")
                else (f"{self.first}b: 127.0.0.2:0 -> {self.target}\n    filter socks5 users=users\n")
            )
            with mock.patch(target, side_effect=lambda *arguments: go.wait()):
                result = await self.reread(again, text)
            self.assertFalse(result.applied)
            self.assertIn("no answer within", "".join(result.failures))
        self.assertEqual([live.name for live in forwarder.rules], ["a"])


# It is imported to be built on.
del RereadingCase
