"""The access log, in each of its forms, as a running forwarder writes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest

from portfwd.testing.peers import Dialer, ScriptedListener, converse
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import TIMEOUT, Forwarder, wait_until

ROOT = Path(__file__).resolve().parents[2]
#: 100 bytes there, 2000 back, the client ends first.
CLIENT = ["send 100", "end", "expect 2000", "expect end"]
UPSTREAM = ["expect 100", "expect end", "send 2000", "end"]


class AccessLogTests(ForwarderCase):
    """One closing line a session; two in rinetd's forms."""

    def session(self, forwarder: Forwarder, rule: str, upstream: ScriptedListener) -> Dialer:
        """One short session."""
        client = Dialer(forwarder.address(rule), *CLIENT)
        converse(client, upstream.peer(*UPSTREAM))
        return client

    def lines(self, forwarder: Forwarder, count: int, name: str = "access.log") -> list[str]:
        """The first lines of the log, once they are there."""
        file = forwarder.directory / name
        wait_until(
            lambda: file.exists() and file.read_text().count("\n") >= count,
            TIMEOUT,
            lambda: (
                f"not {count} lines in {file.read_text() if file.exists() else 'no file'}:\n{forwarder.log}"
            ),
        )
        lines = file.read_text().splitlines()
        self.assertEqual(len(lines), count, lines)
        return lines

    def one_line(self, form: str) -> tuple[str, str, str]:
        """The line of one session; where the client and the upstream were."""
        upstream = self.listener()
        forwarder = self.forwarder(
            f"log access={form} file=access.log\ncase: 127.0.0.1:0 -> {upstream.address}\n"
        )
        client = self.session(forwarder, "case", upstream)
        (line,) = self.lines(forwarder, 1)
        return line, str(client.local), str(forwarder.address("case"))

    def test_text(self) -> None:
        """Key, equals sign and value, in an order that stays."""
        line, client, local = self.one_line("text")
        number = r"\d+\.\d{6}"
        self.assertRegex(
            line,
            rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z closed id=1 rule=case client={re.escape(client)} "
            rf"local={re.escape(local)} upstream=127\.0\.0\.1:\d+ to_upstream=100 to_client=2000 "
            rf"connect={number} first_byte={number} duration={number} reason=-- ended_first=client "
            r"relay=\w+ detail=-",
        )

    def test_json(self) -> None:
        """One object a line, flows within it."""
        text, client, local = self.one_line("json")
        line = json.loads(text)
        self.assertEqual(
            (line["id"], line["rule"], line["client"], line["local"], line["reason"], line["ended_first"]),
            (1, "case", client, local, "--", "client"),
        )
        self.assertEqual((line["to_upstream"]["bytes"], line["to_client"]["bytes"]), (100, 2000))
        self.assertGreaterEqual(line["to_client"]["reads"], 1)
        self.assertTrue(0 <= line["connect_time"] <= line["duration"] <= 20, line)

    def rinetd(self, form: str) -> None:
        """Both lines of a session that ends in order, and the only one of a session that is refused."""
        upstream = self.listener()
        port = upstream.address.port
        forwarder = self.forwarder(
            f"logfile access.log\n{form}"
            f"127.0.0.1 0 127.0.0.1 {port}\n"
            f"127.0.0.2 0 127.0.0.1 {port}\ndeny 127.0.0.1\n"
        )
        first, second = forwarder.addresses("127.0.0.1:0"), forwarder.addresses("127.0.0.2:0")
        converse(Dialer(first[0], *CLIENT), upstream.peer(*UPSTREAM))
        self.lines(forwarder, 2)
        converse(Dialer(second[0], "expect end"))
        lines = self.lines(forwarder, 3)
        date = r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d "
        for line, (host, up, down, message) in zip(
            lines,
            [
                ("127.0.0.1", 0, 0, "opened"),
                ("127.0.0.1", 100, 2000, "done-remote-closed"),
                ("127.0.0.2", 0, 0, "denied"),
            ],
            strict=True,
        ):
            if form:
                expected = (
                    rf"127\.0\.0\.1 - - \[{date} [+-]\d{{4}}\] "
                    rf'"GET /rinetd-services/{re.escape(host)}/0/127\.0\.0\.1/{port}/{message} HTTP/1\.0" '
                    rf"200 {down} - - - {up}"
                )
            else:
                expected = (
                    rf"{date}\t127\.0\.0\.1\t{re.escape(host)}\t0\t127\.0\.0\.1\t{port}"
                    rf"\t{up}\t{down}\t{message}"
                )
            self.assertRegex(line, f"^{expected}$")

    def test_rinetd(self) -> None:
        """``logfile`` alone: rinetd's own form, fields joined by tabs."""
        self.rinetd("")

    def test_common(self) -> None:
        """``logcommon``: the web servers' form."""
        self.rinetd("logcommon\n")

    def test_native_names_of_rinetds_forms(self) -> None:
        """``log access=rinetd`` and ``access=common`` write the same lines."""
        for form, start in (("rinetd", r"^\d\d/"), ("common", r"^127\.0\.0\.1 - - \[")):
            upstream = self.listener()
            forwarder = self.forwarder(
                f"log access={form} file=access.log\ncase: 127.0.0.1:0 -> {upstream.address}\n"
            )
            self.session(forwarder, "case", upstream)
            for line in self.lines(forwarder, 2):
                self.assertRegex(line, start)

    def test_standard_output(self) -> None:
        """Without a ``log`` line the text form goes to standard output."""
        upstream = self.listener()
        forwarder = self.forwarder(None, ["--rule", f"case: 127.0.0.1:0 -> {upstream.address}"])
        self.session(forwarder, "case", upstream)
        forwarder.wait_for_line(r"closed id=1 rule=case .* reason=-- ")

    def test_off(self) -> None:
        """``access=off`` writes nothing."""
        upstream = self.listener()
        forwarder = self.forwarder(f"log access=off\ncase: 127.0.0.1:0 -> {upstream.address}\n")
        self.session(forwarder, "case", upstream)
        self.assertEqual(forwarder.stop(), 0)
        self.assertNotIn("closed id=", forwarder.log)

    def test_reopened(self) -> None:
        """After a rotation SIGUSR1 makes it write to the file of the name again; nothing is lost."""
        upstream = self.listener()
        forwarder = self.forwarder(
            f"log access=json file=access.log\ncase: 127.0.0.1:0 -> {upstream.address}\n"
        )
        self.session(forwarder, "case", upstream)
        self.lines(forwarder, 1)
        forwarder.access_log.rename(forwarder.directory / "access.log.1")
        self.session(forwarder, "case", upstream)
        self.lines(forwarder, 2, "access.log.1")
        forwarder.signal(signal.SIGUSR1)
        wait_until(forwarder.access_log.exists, TIMEOUT, lambda: f"no new file:\n{forwarder.log}")
        self.session(forwarder, "case", upstream)
        (line,) = self.lines(forwarder, 1)
        self.assertEqual(json.loads(line)["id"], 3)
        self.lines(forwarder, 2, "access.log.1")

    def test_logrotate(self) -> None:
        """The file for logrotate that the documentation shows rotates the log; no line is lost."""
        program = shutil.which("logrotate", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
        if program is None:
            raise SkipTest("logrotate is not installed")
        upstream = self.listener()
        forwarder = self.forwarder(
            f"log access=json file=access.log\ncase: 127.0.0.1:0 -> {upstream.address}\n"
        )
        text = (ROOT / "examples" / "logrotate" / "portfwd").read_text("utf-8")
        command = "systemctl kill --kill-who=main --signal=USR1 portfwd.service"
        self.assertIn(command, text)
        text = text.replace(command, f"kill -USR1 {forwarder.pid}")
        config = forwarder.directory / "logrotate.conf"
        config.write_text(text.replace("/var/log/portfwd", os.fspath(forwarder.directory)))
        config.chmod(0o644)
        forwarder.directory.chmod(0o755)
        for number in (1, 2):
            self.session(forwarder, "case", upstream)
            self.lines(forwarder, 1)
            state = forwarder.directory / "logrotate.state"
            command = [program, "--force", "--state", os.fspath(state), os.fspath(config)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            wait_until(forwarder.access_log.exists, TIMEOUT, lambda: f"no new file:\n{forwarder.log}")
            (line,) = self.lines(forwarder, 1, "access.log.1")
            self.assertEqual(json.loads(line)["id"], number)
        self.assertTrue((forwarder.directory / "access.log.2.gz").exists())
        self.assertEqual(forwarder.access_log.stat().st_mode & 0o777, 0o640)

    def test_everything_is_written_before_the_end(self) -> None:
        """Lines that wait in memory when SIGTERM comes are written."""
        upstream = self.listener()
        forwarder = self.forwarder(
            f"log access=json file=access.log\ncase: 127.0.0.1:0 -> {upstream.address}\n"
        )
        for _ in range(5):
            self.session(forwarder, "case", upstream)
        self.assertEqual(forwarder.stop(), 0)
        self.assertEqual(len(forwarder.access_text().splitlines()), 5)
