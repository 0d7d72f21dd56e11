"""Tests of `portfwd.rules.slips`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from portfwd.rules.slips import ARROWS, PAGE


def told(text: str) -> list[tuple[str, str]]:
    """Message and hint of every problem of `text`."""
    try:
        parse(text, "f")
    except RulesError as error:
        return [(problem.message, problem.hint) for problem in error.problems]
    return []


class SlipTests(SynchronousTestCase):
    """One mistake, one error, with the line as it should be."""

    def one(self, text: str, message: str, hint: str) -> None:
        """Only this is said about `text`."""
        self.assertEqual(told(text), [(message, hint)], text)

    def test_arrows(self) -> None:
        """Every other arrow is explained by the line with the right one."""
        for arrow in ARROWS:
            self.one(
                f"web: :80 {arrow} a:1  idle=5m",
                f"'{arrow}' is not the arrow of a rule",
                "write web: :80 -> a:1  idle=5m",
            )

    def test_arrow_without_blanks(self) -> None:
        """An arrow needs a blank on each side."""
        for text in (":80->a:1", ":80 ->a:1", ":80-> a:1", "web: :80->a:1"):
            hint = "write " + text.replace("->", " -> ").replace("  ", " ")
            self.one(text, "there is no blank on both sides of this arrow", hint)

    def test_second_arrow(self) -> None:
        """Two arrows are one error, at the second."""
        for text in (":80 -> a:1 -> b:1", "web: :80 -> a:1 -> b:1 -> c:1 idle=5m"):
            self.one(text, "a rule has one arrow", "write commas between targets that are tried in order")

    def test_name_without_colon(self) -> None:
        """A name without its colon is one error; other errors of the line are still told."""
        for rest in (":80 -> a:1", "127.0.0.1:80 -> a:1 idle=5m", "tls::443 cert=a.pem -> a:1"):
            self.one(f"web {rest}", "a colon is missing after this name", f"write web: {rest}")
        self.one("web :80 -> " + ", ".join(["a:1"] * 30), "a colon is missing after this name", "write web:")
        found = [message for message, _ in told("web :80 -> a:1 ilde=5m")]
        self.assertEqual(found, ["a colon is missing after this name", "unknown option 'ilde'"])

    def test_option_alone(self) -> None:
        """An option on a line of its own, beneath a rule too, is told where it belongs."""
        hint = "put it on the rule's line, or write default idle=5m above the rules that it is for"
        for text in ("idle=5m", "web: :80 -> a:1\n    idle=5m"):
            self.one(text, "an option stands alone", hint)

    def test_long_line(self) -> None:
        """A line that is too long to be shown again is not."""
        self.one(
            ":80 => a:1" + " idle=5m" * 20, "'=>' is not the arrow of a rule", "write '->' between blanks"
        )

    def test_comments(self) -> None:
        """Comments and line ends of other languages."""
        self.one(":80 -> a:1 // note", "'//' begins no comment", "write # before a comment")
        self.one("// note", "'//' begins no comment", "write # before a comment")
        self.one(":80 -> a:1 ;", "';' has no meaning here", "delete it, or write # before a comment")
        self.one(":80 -> a:1;", "';' ends no line here", "delete it")

    def test_equals(self) -> None:
        """Blanks beside ``=`` give one error, and other errors of the line are still told."""
        for spelling in ("idle = 5m", "idle= 5m", "idle =5m"):
            self.one(f":80 -> a:1 {spelling}", "blanks stand beside this '='", "write idle=5m")
        found = [message for message, _ in told(":80 -> a:1 idle = 5m ilde=5m")]
        self.assertEqual(found, ["blanks stand beside this '='", "unknown option 'ilde'"])

    def test_rinetd_brackets(self) -> None:
        """In rinetd's brackets blanks may stand beside ``=``, and another error there stays."""
        self.assertEqual(told("0.0.0.0 80 10.0.0.5 80 [timeout = x]")[0][0][:23], "bad value for 'timeout'")

    def test_listen_address(self) -> None:
        """rinetd's rule without its first word."""
        hint = "write 0.0.0.0 8080 10.0.0.5 80"
        self.one("8080 10.0.0.5 80", "the address to listen on is missing before this port", hint)
        self.one("8080 10.0.0.5 80 [timeout=9]", "the address to listen on is missing before this port", hint)

    def test_foreign_files(self) -> None:
        """The file of another program gives one error, at its first line, whatever follows."""
        for program, text in (
            ("is a configuration of HAProxy", "# mine\nlisten web\n  bind :80\n  server a 10.0.0.5:80\n"),
            ("is a configuration of HAProxy", "global\n  daemon\n"),
            ("is a configuration of nginx", "user www-data;\nworker_processes auto;\n"),
            ("is a configuration of nginx", "stream {\n  server { listen 80; }\n}\n"),
            ("is a configuration of nginx", "load_module modules/ngx_stream_module.so;\nstream {\n}\n"),
            ("is a configuration of nginx", "upstream db {\n  server 10.0.0.5:5432;\n}\n"),
            ("is YAML", "rules:\n  - listen: 8080\n"),
            ("is JSON", '{\n  "rules": []\n}\n'),
            ("is TOML", "[[forwarding_rules]]\nbind_port = 80\n"),
        ):
            ((message, hint),) = told(text)
            self.assertEqual(message, f"it looks as if this file {program}")
            self.assertTrue(hint)
            self.assertEqual(PAGE in hint, "configuration" in program)
        self.assertTrue((Path(__file__).resolve().parents[2] / PAGE).is_file())

    def test_socat(self) -> None:
        """A command of socat, or its addresses in a rule, give one error that names the page."""
        hint = f"{PAGE} has the rule for each of them"
        self.one("socat TCP-LISTEN:80,fork TCP:10.0.0.5:80", "this is a command of socat", hint)
        for text in (
            "TCP-LISTEN:80,fork,reuseaddr TCP:10.0.0.5:80",
            "tcp-listen:80,fork tcp:10.0.0.5:80",
            "UDP4-RECVFROM:53,fork UDP4-SENDTO:10.0.0.53:53",
            "UNIX-LISTEN:/run/a.sock,fork EXEC:cat",
            "web: TCP-LISTEN:80 -> TCP:10.0.0.5:80",
            ":80 -> OPENSSL:10.0.0.5:443,verify=0",
            ":80 -> TCP:10.0.0.5:80,connect-timeout=5",
        ):
            self.one(text, "this is an address of socat", hint)

    def test_addresses_of_ours(self) -> None:
        """Addresses of portfwd that resemble those of socat are none."""
        text = "x: tcp:host:80 -> unix:/run/a.sock, tls:b:443 nosuch=1"
        self.assertEqual([message for message, _ in told(text)], ["unknown option 'nosuch'"])

    def test_foreign_words_in_our_file(self) -> None:
        """Behind a rule the same words are a mistake of their line only."""
        found = told(":80 -> a:1\nlisten web\n:81 -> a:1 ilde=5m\n")
        self.assertEqual(len(found), 2)


class NameTests(SynchronousTestCase):
    """A name without a blank behind it."""

    def test_name_and_port(self) -> None:
        """``web:8080`` is refused, because ``web`` is more often a name than a host."""
        ((message, hint),) = told("web:8080 -> a:1")
        self.assertEqual(message, "a blank is missing after the name 'web', or 'web' is a host")
        self.assertEqual(hint, "write web: :8080, or tcp:web:8080 to listen on that host")

    def test_hosts(self) -> None:
        """Hosts are taken: with a dot, with a prefix, behind a name, and those that every machine has."""
        for listen in ("localhost:80", "web.example:80", "tcp:web:80", "x: web:80", "10.0.0.1:80"):
            self.assertEqual(told(f"{listen} -> a:1"), [], listen)
