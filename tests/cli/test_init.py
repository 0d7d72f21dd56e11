"""Tests of ``portfwd init``: a file for each job, which ``check`` takes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from portfwd.cli import init
from tests.cli.running import CommandTestCase
from tests.places import short_directory
from tests.service.pems import CA, write_authority, write_pair


class InitTests(CommandTestCase):
    """Rules files to begin with."""

    def test_every_job(self) -> None:
        """``check`` has nothing to say of any file, nor of the lines in it that are commented out."""
        made = short_directory(self)
        pem, key = write_pair(made, "www", CA.issue_cert("www.example.com"))
        places = {
            "/etc/portfwd/tls/fullchain.pem": pem,
            "/etc/portfwd/tls/privkey.pem": key,
            "/etc/portfwd/tls/staff-ca.pem": write_authority(made),
            "/run/portfwd/": f"{made}/",
            "/var/log/portfwd/": f"{made}/",
        }
        for job in init.JOBS:
            code, text, err = self.run_main("init", job)
            self.assertEqual((code, err), (0, ""))
            for old, new in places.items():
                text = text.replace(old, new)
            for version in (text, re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)):
                code, out, err = self.run_main("check", self.file(version))
                self.assertEqual((code, err), (0, ""), out)
                self.assertNotIn("warning", out)

    def test_summary(self) -> None:
        """The help says of each job what its file is for, in a line that a terminal has room for."""
        _, out, _ = self.run_main("init", "--help")
        for job in init.JOBS:
            self.assertIn(f"  {job:<10} {init.summary(job)}\n", out)
            self.assertLess(len(init.summary(job)), 85)

    def test_postgres(self) -> None:
        """The job has the options of the check and of the rule that the page's example has."""
        example = Path(__file__).resolve().parents[2] / "examples" / "postgresql.conf"
        needed = [
            [word for word in line.split() if re.match(r"(on-down|all-down|role|fall|rise|inter)=", word)]
            for line in example.read_text().splitlines()
            if line.startswith("db:") or "role=primary" in line
        ]
        self.assertEqual([len(words) for words in needed], [2, 4])
        found = {word for line in init.template("postgres").splitlines()[:8] for word in line.split()}
        self.assertEqual([word for words in needed for word in words if word not in found], [])

    def test_file(self) -> None:
        """``-o`` writes a file, and never over one."""
        path = self.mktemp()
        self.assertEqual(self.run_main("init", "sni", "-o", path), (0, "", ""))
        with open(path) as file:
            self.assertEqual(file.read(), init.template("sni"))
        code, out, err = self.run_main("init", "dns", "-o", path)
        self.assertEqual(
            (code, out, err), (1, "", f"portfwd init: {path}: it exists; name another one, or remove it\n")
        )
        with open(path) as file:
            self.assertEqual(file.read(), init.template("sni"))
        code, _, err = self.run_main("init", "dns", "-o", self.missing())
        self.assertEqual((code, err.count("\n")), (1, 1))
        self.assertIn("No such file", err)

    def test_full_disk(self) -> None:
        """A file that cannot be written whole is removed."""
        path = self.mktemp()
        self.limit_files(10)
        code, _, err = self.run_main("init", "sni", "-o", path)
        self.assertEqual((code, err), (1, f"portfwd init: {path}: File too large\n"))
        self.assertFalse(os.path.exists(path))

    def test_unknown(self) -> None:
        """A job that is not there is a mistake that lists those that are."""
        code, _, err = self.run_main("init", "smtp")
        self.assertEqual(code, 2)
        self.assertIn("toxiproxy", err)
