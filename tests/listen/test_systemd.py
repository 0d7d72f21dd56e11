"""Tests for sockets that were opened by somebody else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial import unittest

from portfwd.listen.systemd import adopt, inherited, initial_environment
from tests.streams.far_ends import open_descriptors


class EnvironmentTests(unittest.SynchronousTestCase):
    """What ``sd_listen_fds(3)`` says of the environment."""

    def test_names(self) -> None:
        """Descriptors count from 3; several may share a name; those without one are called unknown."""
        environment = {"LISTEN_PID": "42", "LISTEN_FDS": "4", "LISTEN_FDNAMES": "web:db:web"}
        self.assertEqual(inherited(environment, 42), {"web": [3, 5], "db": [4], "unknown": [6]})

    def test_no_names(self) -> None:
        """Without names all are unknown."""
        for names in ({}, {"LISTEN_FDNAMES": ""}):
            environment = {"LISTEN_PID": "42", "LISTEN_FDS": "2", **names}
            self.assertEqual(inherited(environment, 42), {"unknown": [3, 4]})

    def test_not_for_us(self) -> None:
        """Nothing is inherited that was meant for another process, or is no number."""
        good = {"LISTEN_PID": "42", "LISTEN_FDS": "1"}
        for change in ({"LISTEN_PID": "43"}, {"LISTEN_PID": ""}, {"LISTEN_PID": "x"}, {"LISTEN_FDS": "one"}):
            self.assertEqual(inherited({**good, **change}, 42), {})
        self.assertEqual(inherited({}, 42), {})

    def test_initial_environment(self) -> None:
        """The environment is the one at the start, whatever was deleted since."""
        name = next(iter(initial_environment()))
        self.patch(os, "environ", {})
        self.assertIn(name, initial_environment())

    def test_where_the_kernel_does_not_keep_it(self) -> None:
        """Elsewhere it is the present one."""

        def missing(_: object) -> bytes:
            raise FileNotFoundError

        self.patch(Path, "read_bytes", missing)
        self.patch(os, "environ", {"LISTEN_PID": "1"})
        self.assertEqual(initial_environment(), {"LISTEN_PID": "1"})


class AdoptTests(unittest.SynchronousTestCase):
    """Descriptors that become sockets of ours."""

    def test_listening(self) -> None:
        """A listening socket is duplicated, non-blocking and not inherited further."""
        with socket.create_server(("127.0.0.1", 0)) as theirs:
            adopted = adopt(theirs.fileno())
            self.addCleanup(adopted.close)
            self.assertEqual(adopted.getsockname(), theirs.getsockname())
            self.assertNotEqual(adopted.fileno(), theirs.fileno())
            self.assertEqual((adopted.gettimeout(), adopted.get_inheritable()), (0.0, False))

    def test_datagrams(self) -> None:
        """A bound datagram socket is adopted by who asks for one, and nobody else's."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
            socket.create_server(("127.0.0.1", 0)) as stream,
        ):
            theirs.bind(("127.0.0.1", 0))
            adopted = adopt(theirs.fileno(), datagrams=True)
            self.addCleanup(adopted.close)
            self.assertEqual(adopted.getsockname(), theirs.getsockname())
            self.assertEqual((adopted.gettimeout(), adopted.get_inheritable()), (0.0, False))
            problem = self.assertRaises(OSError, adopt, stream.fileno(), datagrams=True)
            self.assertIn("write systemd:NAME", str(problem))

    def test_refused(self) -> None:
        """What is no socket, no stream, not listening or not there is an error, and leaves no descriptor."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            socket.socket() as idle,
            open(os.devnull, "rb") as file,
        ):
            before = open_descriptors()
            for descriptor, reason in (
                (datagrams.fileno(), "no stream socket"),
                (idle.fileno(), "does not listen"),
                (file.fileno(), "non-socket"),
                (9999, "Bad file descriptor"),
            ):
                problem = self.assertRaises(OSError, adopt, descriptor)
                self.assertIn(reason, str(problem))
            self.assertEqual(open_descriptors(), before)
