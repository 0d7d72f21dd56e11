"""Link-local IPv6 addresses with zones, as listeners, targets, sources, in logs and access lists."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.forwarder import ROOT, TIMEOUT

#: Makes a namespace whose ``lo`` has link-local addresses, and runs a command there.
NAMESPACE = (
    "ip link set lo up && for n in 1 2 3 4; do ip addr add fe80::$n/64 dev lo nodad || exit 77; done && exec "
)


def in_namespace(command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a new network namespace."""
    return subprocess.run(
        ["unshare", "-Urn", "sh", "-c", NAMESPACE + command],
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


class ZoneTests(SynchronousTestCase):
    """A namespace in which fe80:: addresses are on the loopback."""

    def conversations(self) -> dict[str, Any]:
        """What `tests.integration.zones` saw."""
        if not all(map(shutil.which, ("unshare", "ip"))) or in_namespace("true").returncode:
            raise SkipTest("no network namespace can be made here")
        directory = self.mktemp()
        os.mkdir(directory)
        directory = os.path.abspath(directory)
        done = in_namespace(f"'{sys.executable}' -m tests.integration.zones '{directory}'")
        self.assertEqual(done.returncode, 0, done.stderr)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def test_zones(self) -> None:
        """
        Rules with zones relay, over every relay, TCP and UDP, from the source address that ``src=`` gives.

        Access lists judge the client's address, and logs show it with its zone. An interface that is not
        there fails the dial and is named.
        """
        seen = self.conversations()
        self.assertEqual(
            seen["told"],
            {
                "auto": "fe80::4",
                "copy": "fe80::2",
                "pair": "fe80::2",
                "denied": "",
                "udp": "fe80::4",
                "every": "fe80::2",
                "gone": "ConnectionResetError",
            },
        )
        for rule in ("auto", "copy", "pair", "denied", "udp", "every"):
            self.assertEqual(seen["clients"][rule], "[fe80::3%lo]")
        for rule in ("auto", "copy", "pair", "udp", "every"):
            self.assertEqual(seen["upstreams"][rule], "[fe80::2%lo]:9000")
        self.assertEqual(seen["locals"]["every"], "[fe80::1%lo]:8006")
        self.assertEqual(seen["reasons"]["denied"], "AC")
        self.assertEqual(seen["gone"], "[fe80::2%nosuch0]:9000: there is no interface 'nosuch0'")
        self.assertEqual(seen["listens"], "[fe80::1%lo]:8001")
