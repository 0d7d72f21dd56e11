"""The reference of the Python interface: docstrings as Markdown, and a description of every public name."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

import portfwd.filters
import portfwd.filters.options
import portfwd.testing
from docs import api
from docs.docstrings import markdown

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference" / "api"


def nowhere(_reference: str) -> None:
    """No reference has a link."""


class DocstringTests(SynchronousTestCase):
    """`docs.docstrings.markdown`."""

    def test_paragraph(self) -> None:
        """Lines of a paragraph are joined; literals and references are code."""
        self.assertEqual(
            markdown("Read ``a=1``\nby `read`.\n\nMore.", nowhere), "Read `a=1` by `read`.\n\nMore."
        )

    def test_link(self) -> None:
        """A reference that is described has a link, and its short name."""
        self.assertEqual(markdown("`portfwd.filters.Pipe`", lambda name: "#pipe"), "[`Pipe`](#pipe)")

    def test_fields(self) -> None:
        """Arguments are a list below a heading; results and errors are sentences behind it."""
        text = "Read.\n\n:param size: bytes,\n    at most.\n:returns: them.\n:raises ValueError: none."
        expected = (
            "Read.\n\nTake:\n\n- `size`: bytes, at most.\n\nReturns: them.\n\nRaises `ValueError`: none."
        )
        self.assertEqual(markdown(text, nowhere, "Take:"), expected)

    def test_blocks(self) -> None:
        """Literal blocks keep their lines, also empty ones; examples of the prompt and bullets too."""
        text = "So::\n\n    a = 1\n\n    b = 2\n\n>>> 1\n1\n\n- one ``1``\n- two"
        expected = "So:\n\n```python\na = 1\n\nb = 2\n```\n\n```pycon\n>>> 1\n1\n```\n\n- one `1`\n- two"
        self.assertEqual(markdown(text, nowhere), expected)


SOURCE = '''
from attrs import field, frozen
from other import far

#: The most.
#: It is a bound.
MOST = 3


class Kind(enum.Enum):
    """Kinds."""

    ONE = 1  #: the first
    TWO = 2


class IThing(Interface):
    """A thing."""

    size: int = Attribute("how large it is")


@frozen
class Value:
    """
    A value.

    :ivar one: of them.
    """

    one: int
    two: str = ""
    many: list[int] = field(factory=list)
    hidden: int = field(default=0, init=False)

    @property
    def both(self) -> str:
        """Both, see `Kind`."""

    def _own(self) -> None:
        """Not told."""


class Plain(Value):
    """Plain."""

    def __init__(self, one: int, *more: bytes, two: str = "default", three: int = 333_333, four: str) -> None:
        """:param one: the first."""

    async def run(self, *, hard: bool = False) -> None:
        """Run."""
'''


class DescriptionTests(SynchronousTestCase):
    """`docs.api.fill`."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        (self.root / "pack").mkdir(parents=True)
        (self.root / "pack" / "__init__.py").write_text("from pack.inner import Value as V\n")
        (self.root / "pack" / "inner.py").write_text(SOURCE)
        (self.root / "other.py").write_text('def far(a, b=1):\n    """Far."""\n')

    def made(self, names: str) -> str:
        """What is written for `names` of the module."""
        page = Path("page.md")
        text = f"<!-- api: pack.inner {names} -->\nold\n<!-- end of api -->\n"
        filled = api.fill(text, api.page_links({page: text}, page, self.root), self.root)
        self.assertEqual(api.fill(filled, api.page_links({page: filled}, page, self.root), self.root), filled)
        self.assertNotIn("old", filled)
        return filled

    def test_constant(self) -> None:
        """A constant is a row with its value and its comment."""
        self.assertIn("| `MOST = 3` | The most. It is a bound. |\n", self.made("MOST"))

    def test_enumeration(self) -> None:
        """The members of an enumeration are listed with their comments."""
        self.assertIn("Members:\n\n- `ONE`: the first\n- `TWO`\n", self.made("Kind"))

    def test_interface(self) -> None:
        """An interface has its attributes."""
        self.assertIn("Attributes:\n\n- `size: int`: how large it is.\n", self.made("IThing"))

    def test_attrs(self) -> None:
        """The arguments of an attrs class are its fields; what is private is not told."""
        made = self.made("Value Kind")
        self.assertIn('class Value(one: int, two: str = "", many: list[int] = list())\n', made)
        self.assertIn("- `one`: of them.\n", made)
        self.assertIn("- `both: str`: Both, see [`Kind`](#kind).\n", made)
        self.assertNotIn("own", made)

    def test_plain(self) -> None:
        """A plain class has its constructor's arguments; a long signature has a line for each."""
        made = self.made("Plain")
        self.assertIn("class Plain(\n    one: int,\n    *more: bytes,\n    two: str = ", made)
        self.assertIn("Arguments:\n\n- `one`: the first.\n", made)
        self.assertIn("- `async run(*, hard: bool = False) -> None`: Run.\n", made)

    def test_imported(self) -> None:
        """A name that a module imports is looked up where it is defined, also by its other name."""
        self.assertIn("### far\n\n```python\ndef far(a, b=1)\n```\n\nFar.\n", self.made("far"))
        self.assertEqual(api.find(self.root, "pack", "V").node.lineno, 24)

    def test_missing(self) -> None:
        """A name, or a module, that is not there is an error."""
        self.assertRaises(LookupError, self.made, "Missing")
        self.assertRaises(LookupError, api.read_module, self.root, "missing")

    def test_other_page(self) -> None:
        """A link to another page names it; a word in small letters leads to no other page."""
        text = "<!-- api: pack.inner Kind MOST far -->\n<!-- end of api -->\n"
        pages = {Path("a.md"): "", Path("b.md"): text}
        link = api.page_links(pages, Path("a.md"), self.root)
        self.assertEqual(link("Kind.ONE"), "b.md#kind")
        self.assertEqual(link("MOST"), "b.md")
        self.assertEqual(link("pack.inner"), "b.md")
        self.assertIsNone(link("far"))
        self.assertIsNone(link("enum.Kind"))
        self.assertEqual(api.page_links(pages, Path("b.md"), self.root)("far"), "#far")


class PublicNameTests(SynchronousTestCase):
    """The pages of the interface."""

    def check(self, page: str, module: ModuleType, internal: frozenset[str] = frozenset()) -> None:
        """The page describes every public name of `module`, and none that it has not."""
        told = [
            name
            for where, name in api.described((PAGES / page).read_text("utf-8"))
            if where == module.__name__
        ]
        self.assertEqual(sorted(told), sorted(set(module.__all__) - internal))

    def test_filters(self) -> None:
        """Every name of `portfwd.filters` is described."""
        self.check("filters.md", portfwd.filters)

    def test_options(self) -> None:
        """So are those of `portfwd.filters.options` that an author needs."""
        own = frozenset({"NEEDED", "Network", "OptionProblem", "declared", "example", "read_options"})
        self.check("options.md", portfwd.filters.options, own)

    def test_testing(self) -> None:
        """So is every name of `portfwd.testing`."""
        self.check("testing.md", portfwd.testing)

    def test_text(self) -> None:
        """No class and no function is without a text, and no constant without a meaning."""
        for page in sorted(PAGES.glob("*.md")):
            text = page.read_text("utf-8")
            self.assertNotIn("```\n\n###", text, page.name)
            self.assertNotRegex(text, r"\|  \|\n", page.name)
