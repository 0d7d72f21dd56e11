"""What the pages of the installation say, and the files for systemd that they show."""

from __future__ import annotations

import configparser
import contextlib
import grp
import io
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.cli.main import main
from portfwd.rules import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "how-to"
UNITS = ROOT / "examples" / "systemd"
#: A command that builds an image, up to the end of its code span.
BUILD = re.compile(r"`((?:podman|buildah) build\b[^`]*)`")


class CommandTests(SynchronousTestCase):
    """Commands of the pages."""

    def test_image_format(self) -> None:
        """An image is built in the format that keeps its health check."""
        found = [one for page in PAGES.glob("*.md") for one in BUILD.findall(page.read_text("utf-8"))]
        self.assertGreater(len(found), 0)
        self.assertEqual([one for one in found if "--format docker" not in one], [])
        self.assertIn("--format docker", (ROOT / ".ci" / "image").read_text("utf-8"))

    def test_package(self) -> None:
        """The profile of the build is that of its dependencies, and the package is in the directory above."""
        page = (PAGES / "install.md").read_text("utf-8")
        (build,) = re.findall(r"`dpkg-buildpackage [^`]*-P(\S+)`", page)
        (depend,) = re.findall(r"`apt-get build-dep -P (\S+) \.`", page)
        self.assertEqual(build, depend)
        self.assertIn(f"<!{build}>", (ROOT / "debian" / "control").read_text("utf-8"))
        self.assertEqual(set(re.findall(r"apt install (\S*)portfwd_", page)), {"../"})


class SocketTests(SynchronousTestCase):
    """The socket units."""

    def test_service(self) -> None:
        """Each starts the service, and the rules have the names of their sockets."""
        names = set()
        page = (PAGES / "systemd.md").read_text("utf-8")
        for path in UNITS.glob("*.socket"):
            unit = configparser.ConfigParser(interpolation=None)
            unit.optionxform = str  # type: ignore[assignment,method-assign]
            unit.read_string(path.read_text("utf-8"))
            socket = unit["Socket"]
            service = socket.get("Service", f"{path.stem}.service")
            self.assertTrue((UNITS / service).is_file(), f"{path.name} is for {service}")
            names.add(socket["FileDescriptorName"])
            self.assertRegex(page, rf"systemctl enable --now [^`]*\b{re.escape(path.name)}")
        text = (UNITS / "socket.conf").read_text("utf-8")
        self.assertEqual({rule.listen.path for rule in parse(text, "socket.conf").rules}, names)


class HookTests(SynchronousTestCase):
    """The deploy hook for certbot."""

    def renew(self, lineage: Path, place: Path) -> Path:
        """Renew a certificate as certbot does, with the user's own group."""
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90"
        command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        command += f" -keyout {lineage}/privkey.pem -out {lineage}/fullchain.pem"
        subprocess.run(command.split(), check=True, capture_output=True)
        group = grp.getgrgid(os.getegid()).gr_name
        environment = {**os.environ, "RENEWED_LINEAGE": str(lineage), "PLACE": str(place), "GROUP": group}
        subprocess.run([UNITS / "certbot-hook.sh"], env=environment, check=True)
        return place / f"{lineage.name}.pem"

    def test_hook(self) -> None:
        """The pair is one file for the group alone, which a rule can name; a renewal replaces it."""
        if shutil.which("openssl") is None:
            raise SkipTest("needs openssl")
        lineage = Path(self.mktemp()).resolve() / "example.com"
        lineage.mkdir(parents=True)
        place = lineage.parent / "tls"
        first = self.renew(lineage, place)
        before = first.read_text()
        self.assertEqual(self.renew(lineage, place), first)
        self.assertNotEqual(first.read_text(), before)
        self.assertEqual(os.listdir(place), ["example.com.pem"])
        self.assertEqual(stat.S_IMODE(first.stat().st_mode), 0o640)
        self.assertEqual(stat.S_IMODE(place.stat().st_mode), 0o750)
        for cert in (first, place):
            rules = lineage.parent / "rules.conf"
            rules.write_text(f"web: tls:127.0.0.1:0 cert={cert} -> 127.0.0.1:9\n")
            with contextlib.redirect_stdout(io.StringIO()) as output:
                self.assertEqual(main(["check", str(rules)]), 0, output.getvalue())
            self.assertNotIn("warning", output.getvalue())
