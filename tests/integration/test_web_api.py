"""The web API compared with its own description, by schemathesis, against a running forwarder."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from tests.integration.case import ForwarderCase, deep

TOKEN = "a-token-for-the-tests"
#: What goes on, and what would end the forwarder.
LEFT_OUT = ("/api/v1/stop", "/api/v1/top", "/api/v1/tap/{id}")


class DescriptionTests(ForwarderCase):
    """Every request that the description allows, and many that it does not."""

    if find_spec("schemathesis") is None:
        skip = "schemathesis is not installed, which the extra 'browser' brings"

    def test_as_described(self) -> None:
        """Answers are as described, and what is not described is refused; nothing is a mistake."""
        token = self.directory / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        forwarder = self.forwarder(
            f"web 127.0.0.1:0 level=operator token-file={token}\n"
            "lab: 127.0.0.1:0 -> 127.0.0.1:9, 127.0.0.1:10\n    filter faults latency delay=1ms\n"
        )
        url = forwarder.wait_for_line(r"web: listening on (http://127\.0\.0\.1:\d+)/")[1]
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"{url}/api/v1/openapi.json",
            "--no-color",
        ]
        command += ["-H", f"Authorization: Bearer {TOKEN}", "--max-examples", "50" if deep() else "5"]
        command += ["--phases", "coverage,fuzzing", "--checks", "all", "--seed", "1"]
        # A text may be refused for what it means: no schema says which patterns of addresses there are.
        command += ["--exclude-checks", "positive_data_acceptance"]
        for path in LEFT_OUT:
            command += ["--exclude-path", path]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("a command failed", forwarder.log)
