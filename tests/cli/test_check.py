"""Tests of ``portfwd check``."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import timedelta

from portfwd.service.tls.certificates import now_utc
from tests.cli.running import GOOD, CommandTestCase
from tests.service.pems import CA, directory_of, write_pair

ODD = 'e: endpoint:"tcp:90" -> tls:one.example:443 verify=off\n'


SPLICED = {"rule": "web", "relay": "splice", "why": "both ends are plain sockets"}


class CheckTests(CommandTestCase):
    """What is said, and the exit code."""

    def test_good(self) -> None:
        """A good file is counted."""
        path = self.file(GOOD)
        self.assertEqual(self.run_main("check", path), (0, f"{path}: 1 rule (splice: 1)\n", ""))

    def test_bad(self) -> None:
        """Every problem of a bad file is printed with its place, a caret and the way out."""
        path = self.file("web: :8080 -> 10.0.0.5:80 ilde=5m\nallow 10.0.0.1/8\n")
        code, out, err = self.run_main("check", path)
        self.assertEqual((code, err), (2, ""))
        self.assertEqual(
            out.splitlines()[:4],
            [
                f"{path}:1:27: error: unknown option 'ilde'",
                "    web: :8080 -> 10.0.0.5:80 ilde=5m",
                "                              ^~~~",
                "    did you mean 'idle'?",
            ],
        )
        self.assertIn(f"{path}:2:7: error: '10.0.0.1/8' has bits set", out)
        self.assertEqual(out.splitlines()[-1], f"{path}: 2 errors")

    def test_cut(self) -> None:
        """A file that ends within a line may have been cut; other grammars have ends of their own."""
        path = self.file(GOOD.rstrip("\n"))
        code, out, _ = self.run_main("check", path)
        self.assertEqual(code, 0)
        self.assertIn(f"{path}:4:17: warning: the file ends within this line\n    ", out)
        empty = self.file("")
        self.assertNotIn("ends within", self.run_main("check", "--allow-empty", empty)[1])
        toml = self.file('[[forwarding_rules]]\nbind_address = "0.0.0.0"', ".toml")
        self.assertNotIn("ends within", self.run_main("check", toml)[1])

    def test_quiet(self) -> None:
        """``-q`` prints errors and nothing else, so that silence means a good file."""
        good, bad = self.file(GOOD + ODD), self.file("web: :8080 -> 10.0.0.5:80 ilde=5m\n")
        self.assertEqual(self.run_main("check", "-q", good), (0, "", ""))
        code, out, _ = self.run_main("check", "-q", good, bad)
        self.assertEqual((code, out.count("error"), out.count("warning")), (2, 1, 0))

    def test_advice(self) -> None:
        """Warnings come in the order of the file and do not fail it."""
        path = self.file(GOOD + ODD)
        code, out, _ = self.run_main("check", path)
        self.assertEqual(code, 0)
        self.assertLess(out.index("out of descriptors"), out.index("certificate is not checked"))
        self.assertEqual(out.splitlines()[-1], f"{path}: 2 rules (pair: 1, splice: 1), 2 warnings")

    def test_not_yet(self) -> None:
        """What this version cannot do is an error of the file, in its place among the others."""
        path = self.file("default relay=copy\n" + ODD)
        code, out, _ = self.run_main("check", "--json", path)
        (result,) = json.loads(out)["files"]
        self.assertEqual((code, result["ok"], result["rules"]), (2, False, 1))
        self.assertEqual(
            [problem["code"] for problem in result["problems"]],
            ["not-yet", "endpoint-descriptors", "unverified"],
        )

    def test_filters(self) -> None:
        """What a filter says of its clause is told in its place, beside what else is wrong."""
        path = self.file(
            GOOD + "    filter python:tests.filters.plugins.Bare loud=on\nother: :1 -> a:1 ilde=5\n"
        )
        code, out, _ = self.run_main("check", path)
        self.assertEqual(code, 2)
        self.assertIn(
            f"{path}:5:46: error: filter python:tests.filters.plugins.Bare: unknown option 'loud'", out
        )
        self.assertLess(out.index("unknown option 'loud'"), out.index("unknown option 'ilde'"))

    def test_filter_with_tls(self) -> None:
        """A filter that starts TLS decides the relay, and its certificate is looked at."""
        directory = directory_of(self)
        soon = now_utc() + timedelta(days=3)
        cert, _ = write_pair(directory, "a", CA.issue_cert("a.example", not_after=soon), apart=False)
        os.chmod(cert, 0o644)
        path = self.file(f"a: :1 -> 10.0.0.1:1\n    filter starttls-postgres terminate cert={cert}\n")
        code, out, _ = self.run_main("check", path)
        self.assertEqual(code, 0, out)
        self.assertIn(f"{path}:2:12: warning: {cert}: the certificate expires on", out)
        self.assertIn("every user of this machine can read this private key", out)
        self.assertEqual(out.splitlines()[-1], f"{path}: 1 rule (pair: 1), 2 warnings")
        _, out, _ = self.run_main("check", "--json", path)
        relay = {"rule": "a", "relay": "pair", "why": "filter starttls-postgres may start TLS"}
        self.assertEqual(json.loads(out)["files"][0]["relays"], [relay])
        code, out, _ = self.run_main("explain", path, "10.0.0.1", ":1")
        self.assertIn("  relay    pair: filter starttls-postgres may start TLS\n", out)

    def test_standard_input(self) -> None:
        """A dash is standard input; relative includes are the working directory's."""
        for text, code, said in (
            (GOOD, 0, "<stdin>: 1 rule"),
            ("what", 2, "<stdin>:1:1: error"),
            (b"\xff", 2, "<stdin>:1:1: error: byte 0xff"),
            ("include gone.conf\n", 2, "<stdin>:1:9: error: there is no file 'gone.conf'"),
        ):
            data = text if isinstance(text, bytes) else text.encode()
            self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            found, out, _ = self.run_main("check", "-")
            self.assertEqual(found, code, out)
            self.assertIn(said, out)

    def test_empty(self) -> None:
        """A file without rules is wrong, whatever cut it short, unless that is said to be meant."""
        for text in ("", "# all of it was here\n", "include conf.d/*.conf\n", "log access=off\n"):
            path = self.file(text)
            code, out, _ = self.run_main("check", path)
            self.assertEqual(code, 2)
            self.assertIn("error: there is no rule", out)
            self.assertIn("--allow-empty", out)
            code, out, _ = self.run_main("check", "--allow-empty", path)
            self.assertEqual(code, 0)

    def test_another_form(self) -> None:
        """A file in another form than its name says has nothing else wrong with it."""
        code, out, _ = self.run_main("check", self.file("web: :1 -> a:1", ".yaml"))
        self.assertEqual((code, out.count("error:")), (2, 1))

    def test_several(self) -> None:
        """Several files are all judged; a wrong one outweighs an unreadable one."""
        good, bad, missing = self.file(GOOD), self.file("x"), self.missing()
        self.assertEqual(self.run_main("check", good, missing)[0], 1)
        code, out, _ = self.run_main("check", bad, missing, good)
        self.assertEqual(code, 2)
        self.assertIn(f"{missing}: 1 error", out)
        self.assertIn(f"{good}: 1 rule", out)

    def test_json(self) -> None:
        """JSON has an object for each file, with every problem."""
        good, bad = self.file(GOOD), self.file("web: :8080 -> 10.0.0.5:80 ilde=5m\n")
        code, out, _ = self.run_main("check", "--json", good, bad)
        files = json.loads(out)["files"]
        self.assertEqual(code, 2)
        self.assertEqual(
            files[0], {"file": good, "ok": True, "rules": 1, "relays": [SPLICED], "problems": []}
        )
        self.assertEqual((files[1]["ok"], files[1]["rules"]), (False, None))
        problem = files[1]["problems"][0]
        self.assertEqual((problem["line"], problem["column"], problem["code"]), (1, 27, "unknown-option"))

    def test_names_of_files(self) -> None:
        """A control character of a file's name cannot reach the terminal by the closing line."""
        out = self.run_main("check", "no\x1b[2Jfile")[1]
        self.assertEqual(out.splitlines()[-1], r"no\x1b[2Jfile: 1 error")
