"""
The steps of the tutorial's filter, and the example package that it ends in, do what the tutorial says.

`tests.packaging.test_filter_package` installs the package.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import DONE, NEED_MORE, TO_CLIENT, TO_UPSTREAM, Close, Connection, Verdict
from portfwd.filters.own_factory import Arguments, ClassPlugin
from portfwd.testing import check_filter

ROOT = Path(__file__).resolve().parents[1]
LISTINGS = ROOT / "docs" / "listings"
PACKAGE = ROOT / "examples" / "filter-package"


def load(path: Path) -> ModuleType:
    """The module in a file that lies outside of every package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class StepTests(SynchronousTestCase):
    """What each step of the filter answers."""

    def setUp(self) -> None:
        self.said: list[str] = []

    def opened(self, step: int) -> Any:
        """The filter of a step, for a connection that was opened."""
        plugin = ClassPlugin("ssh-only", load(LISTINGS / f"ssh_only_{step}.py").SSHOnly)
        log = Logger(observer=lambda event: self.said.append(event["log_format"].format(**event)))
        connection = Connection(7, "guarded", log)
        found = plugin.configure(Arguments(), ()).build(connection)
        self.assertIs(found.opened(connection), None)
        return found

    def check(self, step: int, cases: dict[bytes, Verdict]) -> None:
        """Each of these bytes of a client has its verdict; the upstream's are left alone."""
        for data, verdict in cases.items():
            self.assertEqual(self.opened(step).received(TO_UPSTREAM, data), verdict, data)
        self.assertIs(self.opened(step).received(TO_CLIENT, b"GET"), DONE)

    def test_nothing(self) -> None:
        """Step 1 passes everything."""
        self.check(1, {b"SSH-2.0-x\r\n": DONE, b"GET / HTTP/1.1\r\n": DONE})

    def test_look(self) -> None:
        """Step 2 passes everything too, goes on looking, and says how much there was."""
        step = self.opened(2)
        self.assertIs(step.received(TO_UPSTREAM, b"four"), None)
        self.assertIs(step.received(TO_CLIENT, b"sixsix"), None)
        self.assertEqual(self.said, ["session 7, to-upstream: 4 bytes", "session 7, to-client: 6 bytes"])

    def test_done(self) -> None:
        """Step 3 looks once; it takes half a greeting for none, which is the mistake that step 4 is about."""
        self.check(3, {b"SSH-2.0-x\r\n": DONE, b"S": DONE})
        self.assertEqual(self.said, ["session 7: ssh=True", "session 7: ssh=False"])

    def test_wait(self) -> None:
        """Step 4 waits for as much as it needs, and no longer."""
        self.check(4, {b"S": NEED_MORE, b"SSH": NEED_MORE, b"SSH-": DONE, b"SX": DONE})
        self.assertEqual(self.said, ["session 7: ssh=True", "session 7: ssh=False"])

    def test_refuse(self) -> None:
        """Step 5 refuses what is no SSH."""
        refusal = Close("not SSH", reply=b"SSH only\r\n")
        self.check(5, {b"S": NEED_MORE, b"SSH-2.0-x\r\n": DONE, b"G": refusal, b"SSX-": refusal})

    def test_contract(self) -> None:
        """Every step keeps the contract, and so does what is shipped."""
        steps = [LISTINGS / f"ssh_only_{step}.py" for step in range(1, 6)]
        for path in (*steps, PACKAGE / "ssh_only.py"):
            check_filter(load(path).SSHOnly, [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n\r\n"])
