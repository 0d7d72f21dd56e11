"""Tests of ``portfwd convert``."""

from __future__ import annotations

import io
import os
import sys

from portfwd.rules.load import parse, parse_yaml
from portfwd.rules.queries.render import render
from tests.cli.running import GOOD, CommandTestCase
from tests.rules.golden import FIXTURES

RINETD = (
    "allow 10.*\n0.0.0.0 80 10.0.0.5 8080 [src=10.0.0.1]\ndeny 10.0.0.66\nlogfile /var/log/x\nlogcommon\n"
)


class ConvertTests(CommandTestCase):
    """The native text of any grammar."""

    def test_to_standard_output(self) -> None:
        """What is printed means what the file means."""
        code, out, err = self.run_main("convert", self.file(RINETD))
        self.assertEqual((code, err), (0, ""))
        self.assertIn("0.0.0.0:80 -> 10.0.0.5:8080", out)
        self.assertEqual(parse(out, "out"), parse(RINETD, "in"))

    def test_toml(self) -> None:
        """The TOML of oxidinetd becomes native too."""
        toml = (
            '[[forwarding_rules]]\nbind_address = "127.0.0.1"\nbind_port = 80\n'
            'connect_address = "10.0.0.5"\nconnect_port = 81\nprotocol = "tcp"\n'
        )
        code, out, _ = self.run_main("convert", self.file(toml, ".toml"))
        self.assertEqual((code, "127.0.0.1:80 -> 10.0.0.5:81" in out), (0, True))

    def test_yaml(self) -> None:
        """The YAML of rinetd-uv becomes native too, and means the same."""
        text = (FIXTURES / "rinetd-uv.yaml").read_text("utf-8")
        code, out, _ = self.run_main("convert", self.file(text, ".yaml"))
        self.assertEqual(code, 0)
        self.assertIn("front: 0.0.0.0:80 backlog=256 -> 192.168.1.10:8080", out)
        self.assertEqual(render(parse(out, "out")), out)
        self.assertEqual(parse(out, "out").access, parse_yaml(text, "in").access)

    def test_realm(self) -> None:
        """realm's TOML and JSON too."""
        for ending in (".toml", ".json"):
            text = (FIXTURES / f"realm{ending}").read_text("utf-8")
            code, out, _ = self.run_main("convert", self.file(text, ending))
            self.assertEqual(code, 0)
            self.assertIn("0.0.0.0:5000/udp -> 1.1.1.1:443/udp", out)
            self.assertEqual(render(parse(out, "out")), out)

    def test_to_file(self) -> None:
        """With ``-o`` a file is written, even the one that was read."""
        path = self.file(RINETD)
        self.assertEqual(self.run_main("convert", path, "-o", path), (0, "", ""))
        with open(path, encoding="utf-8") as file:
            self.assertEqual(parse(file.read(), "out"), parse(RINETD, "in"))

    def test_standard_input(self) -> None:
        """A dash is standard input."""
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(RINETD.encode())))
        code, out, _ = self.run_main("convert", "-")
        self.assertEqual((code, parse(out, "out")), (0, parse(RINETD, "in")))

    def test_warnings(self) -> None:
        """Warnings go to standard error, beside the text."""
        code, out, err = self.run_main("convert", self.file("# nothing\n"))
        self.assertEqual((code, out), (0, ""))
        self.assertIn("warning: there is no rule", err)

    def test_bad(self) -> None:
        """A file that is wrong or not there is not converted, and nothing is written."""
        for path, expected in ((self.file(GOOD + "x"), 2), (self.missing(), 1)):
            output = self.mktemp()
            code, out, err = self.run_main("convert", path, "-o", output)
            self.assertEqual((code, out, os.path.exists(output)), (expected, "", False))
            self.assertIn("error: ", err)

    def test_cannot_write(self) -> None:
        """An output that cannot be written is one line and exit code 1."""
        code, _, err = self.run_main("convert", self.file(GOOD), "-o", self.missing())
        self.assertEqual(code, 1)
        self.assertRegex(err, r"^portfwd convert: cannot write '.*': No such file or directory\n$")

    def test_full_disk(self) -> None:
        """An output that cannot be written whole stays as it was, and nothing else is left."""
        path = self.file(RINETD)
        name = os.path.basename(path)
        before = sorted(os.listdir(os.path.dirname(path) or "."))
        self.limit_files(10)
        code, _, err = self.run_main("convert", path, "-o", path)
        self.assertEqual((code, err), (1, f"portfwd convert: cannot write '{path}': File too large\n"))
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), RINETD)
        self.assertEqual(sorted(os.listdir(os.path.dirname(path) or ".")), before)
        self.assertIn(name, before)

    def test_mode(self) -> None:
        """An output keeps its mode and remains a link; a new one has the mode of the umask."""
        path, link, new = self.file(RINETD), self.mktemp(), self.mktemp()
        os.chmod(path, 0o604)
        os.symlink(os.path.abspath(path), link)
        self.addCleanup(os.umask, os.umask(0o027))
        for output in (link, new):
            self.assertEqual(self.run_main("convert", self.file(RINETD), "-o", output), (0, "", ""))
        self.assertTrue(os.path.islink(link))
        with open(path, encoding="utf-8") as file:
            self.assertEqual(parse(file.read(), "out"), parse(RINETD, "in"))
        self.assertEqual([os.stat(one).st_mode & 0o777 for one in (path, new)], [0o604, 0o640])

    def test_to_fifo(self) -> None:
        """A FIFO is written to and not replaced."""
        path = self.mktemp()
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertEqual(self.run_main("convert", self.file(RINETD), "-o", path), (0, "", ""))
        self.assertEqual(parse(os.read(reader, 65536).decode(), "out"), parse(RINETD, "in"))
