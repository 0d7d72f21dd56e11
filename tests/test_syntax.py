"""The colours of rules files, and the schema of the TOML form."""

from __future__ import annotations

import json
import tomllib
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.grammars.realm import NUMBERS, SWITCHES
from portfwd.rules.options import BY_NAME, OPTIONS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TEXT = """\
default connect-timeout=2s   # for all
web: :8080 -> 10.0.0.5:80, tls:a.example:443  idle=5m max-conns=100
    allow 192.168.1.0/24
    filter replace from="a b" to=x#y
dns: :5353/udp -> 10.0.0.53:53/udp
"""


class LexerTests(SynchronousTestCase):
    """What Pygments and editors see."""

    if find_spec("pygments") is None:
        skip = "pygments comes with the extra 'docs'"

    def tokens(self, text: str) -> list[tuple[str, str]]:
        """The words that have a colour."""
        from docs.syntax import RulesLexer

        return [
            (str(token).removeprefix("Token."), word.strip())
            for token, word in RulesLexer().get_tokens(text)
            if not str(token).startswith("Token.Text")
        ]

    def test_words(self) -> None:
        """Each kind of word, in a small file."""
        found = self.tokens(TEXT)
        for expected in (
            ("Keyword", "default"),
            ("Name.Attribute", "connect-timeout"),
            ("Literal.Number", "2s"),
            ("Comment.Single", "# for all"),
            ("Name.Label", "web"),
            ("Operator", "->"),
            ("Name.Builtin", "tls"),
            ("Keyword", "allow"),
            ("Keyword.Reserved", "filter"),
            ("Literal.String", '"a b"'),
            ("Keyword.Type", "/udp"),
        ):
            self.assertIn(expected, found)
        self.assertNotIn("y", [word for kind, word in found if kind.startswith("Comment")])

    def test_options(self) -> None:
        """Every option is coloured as one."""
        for option in OPTIONS:
            self.assertIn(("Name.Attribute", option.key), self.tokens(f"a: :1 -> b:1  {option.key}=x\n"))

    def test_examples(self) -> None:
        """Nothing of an example is lost, and every line of one has a colour: its first word is known."""
        from docs.syntax import RulesLexer

        for path in sorted(EXAMPLES.rglob("*.conf")):
            text = path.read_text()
            tokens = list(RulesLexer().get_tokens(text))
            self.assertEqual("".join(word for _, word in tokens).strip(), text.strip())
            self.assertNotIn("Token.Error", {str(token) for token, _ in tokens})
            if path.name == "rinetd.conf":
                continue
            for line in filter(str.strip, text.splitlines()):
                self.assertTrue(self.tokens(f"{line}\n"), f"{path.name}: {line}")

    def test_current(self) -> None:
        """The files for editors are those of today; ``python -m docs.generate`` writes them."""
        from docs.syntax import files

        for name, text in files():
            self.assertEqual((ROOT / "editors" / name).read_text(), text)


class SchemaTests(SynchronousTestCase):
    """The JSON schema of the TOML form."""

    if find_spec("jsonschema") is None:
        skip = "needs jsonschema, which kubernetes-validate of the extra 'test' brings"

    def problems(self, text: str) -> int:
        """How many the schema finds."""
        import jsonschema

        schema = json.loads((ROOT / "editors" / "portfwd-toml.schema.json").read_text())
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        return len(list(validator.iter_errors(tomllib.loads(text))))

    def test_examples(self) -> None:
        """The example fits, and every option does."""
        self.assertEqual(self.problems((EXAMPLES / "oxidinetd.toml").read_text()), 0)
        options = "\n".join(f'{name.replace("-", "_")} = "x"' for name in BY_NAME)
        self.assertEqual(self.problems(f"[[forwarding_rules]]\n{options}\n"), 0)
        checks = '[[forwarding_rules]]\ncheck = "tcp"\n[[forwarding_rules]]\ncheck = ["tcp", "http"]\n'
        self.assertEqual(self.problems(checks), 0)

    def test_realm(self) -> None:
        """realm's example fits, and so does every key of ``network``; a misspelt one does not."""
        self.assertEqual(self.problems((EXAMPLES / "realm.toml").read_text()), 0)
        endpoint = '[[endpoints]]\nlisten = "0.0.0.0:1"\nremote = "10.0.0.5:1"\n'
        network = "[network]\n" + "".join(f"{key} = true\n" for key in sorted(SWITCHES))
        network += "".join(f"{key} = 5\n" for key in sorted(NUMBERS))
        self.assertEqual(self.problems(network + endpoint), 0)
        for text in (
            endpoint.replace("remote", "remot"),
            endpoint + "balance = 5\n",
            "[network]\nuse_upd = true\n" + endpoint,
            "[network]\ntcp_timeout = -1\n" + endpoint,
            "log_file = 'x'\n" + endpoint,
        ):
            self.assertGreater(self.problems(text), 0, text)

    def test_mistakes(self) -> None:
        """Unknown keys and protocols do not fit, nor an access rule without a pattern."""
        for text in (
            'log_fil = "x"\n',
            "[[forwarding_rules]]\nbind_prt = 1\n",
            '[[forwarding_rules]]\nprotocol = "sctp"\n',
            '[[global_rules]]\ntype = "allow"\n',
        ):
            self.assertEqual(self.problems(text), 1, text)
