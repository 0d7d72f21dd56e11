"""
The rules of the house that no other tool looks at.

Words, sizes and first lines of files; the import order is `lint-imports`' and
the style ruff's.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

try:
    import grimp
except ImportError:
    grimp = None

ROOT = Path(__file__).resolve().parents[1]
#: Names that say nothing about what is inside.
EMPTY_MODULE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "misc"}
EMPTY_CLASS_NAME = re.compile(r"(Manager|Handler|Engine|Processor|Helper|Util)$")
#: Words that are not used, and the words of the vocabulary.
UNUSED_WORDS = {
    "arrivals": "client",
    "correspondent": "client",
    "crowd": "load",
    "departures": "retired rule",
    "desk": "owner",
    "doorkeeper": "admission",
    "farewell": "closing mode",
    "gate": "rate limiter",
    "gates": "rate limiters",
    "intake": "write readiness",
    "patience": "timeout queue",
    "reception": "clients",
    "surroundings": "context",
    "traveller": "waiter",
    "world": "context",
}
#: Where one of them is a name that users know.
KNOWN_WORDS = {"portfwd/cli/playing.py": {"patience"}, "portfwd/cli/replay.py": {"patience"}}
#: Lines beyond which a module usually answers more than one question.
MAX_LINES = 450
#: Modules that are longer, each with the reason why it is one file all the same.
LONGER: dict[str, str] = {
    "portfwd/filters/api.py": "the contract of filters, which an author reads from its beginning to its end",
    "portfwd/filters/chain/chain.py": "one state machine, on the path of every chunk that a filter sees",
    "portfwd/relay/filtered.py": "the session that does what a chain asks for, one method for each effect",
    "portfwd/relay/session.py": "the session that performs the actions of `ends`, one method for each event",
    "portfwd/rules/model.py": "values without functions, at the import path that embedding programs use",
    "portfwd/service/run/forwarder.py": "start, reload and stop change the same listeners and rules in turn",
    "portfwd/streams/sockets/socket_stream.py": "the hot path: its parts would cost a call for each chunk",
    "portfwd/streams/transports/tls.py": "the hot path of TLS: one connection, one machine of states",
    "portfwd/streams/transports/transport.py": "the hot path: its parts would cost a call for each chunk",
}

#: Questions for a class in the packages that move bytes; a method of the object asked is better.
MAX_CLASS_QUESTIONS = 19
#: Documented names that begin so: of named tuples, and `os._exit`.
PUBLIC_ALL_THE_SAME = {"_replace", "_asdict", "_fields", "_make", "_exit"}
#: Calls that name an attribute by a string in their second argument.
NAMED_BY_STRING = {"patch", "object", "getattr", "setattr", "delattr"}
#: The string of `mock.patch` for something private of the package.
PRIVATE_PATH = re.compile(r"portfwd(\.\w+)*\._[a-zA-Z]\w*")
#: Private names that tests reach into. The number only goes down: test what the object does, give it a public
#: reader that other code could use, or pass in what is replaced.
MAX_PRIVATE_REACHES = 7


def sources(*rooms: str) -> Iterator[Path]:
    """Every Python file under `rooms`."""
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


def short(path: Path) -> str:
    """How a failure names `path`."""
    return str(path.relative_to(ROOT))


def is_private(name: object) -> bool:
    """Whether the author of `name` keeps it for himself."""
    return (
        isinstance(name, str)
        and name.startswith("_")
        and not name.startswith("__")
        and name not in PUBLIC_ALL_THE_SAME
    )


def private_reaches(tree: ast.AST) -> Iterator[ast.AST]:
    """What reads, sets, replaces or imports a private name of an object or module other than its own."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super"))):
                continue
            case ast.Attribute(attr=name) if is_private(name):
                yield node
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called), args=[_, ast.Constant(value=name), *_]
            ) if called in NAMED_BY_STRING and is_private(name):
                yield node
            case ast.Constant(value=str(path)) if PRIVATE_PATH.fullmatch(path):
                yield node
            case ast.ImportFrom(names=names) if any(is_private(name.name) for name in names):
                yield node
            case _:
                pass


class HouseTests(SynchronousTestCase):
    """What every file of the package and of its tests keeps to."""

    def test_first_line(self) -> None:
        """Every module with code names on its first line the tests that are its own, and they exist."""
        wrong = []
        for path in sources("portfwd"):
            text = path.read_text()
            if path.name == "__init__.py" and not re.search(r"^(def|class) ", text, re.MULTILINE):
                continue
            named = re.match(r"# -\*- test-case-name: ([\w.,]+) -\*-\n", text)
            if named is None:
                wrong.append(f"{short(path)}: no test-case-name")
                continue
            for module in named[1].split(","):
                place = ROOT.joinpath(*module.split("."))
                if not (place.with_suffix(".py").exists() or place.is_dir()):
                    wrong.append(f"{short(path)}: {module} does not exist")
        self.assertEqual(wrong, [])

    def test_names(self) -> None:
        """No module and no class has a name that would fit any other."""
        wrong = []
        for path in sources("portfwd", "tests"):
            if path.stem in EMPTY_MODULE_NAMES:
                wrong.append(short(path))
            wrong += [
                f"{short(path)}:{node.lineno}: {node.name}"
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ClassDef) and EMPTY_CLASS_NAME.search(node.name)
            ]
        self.assertEqual(wrong, [])

    def test_class_names_are_unique(self) -> None:
        """A public class name exists once in the package."""
        found: dict[str, list[str]] = {}
        for path in sources("portfwd"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(f"{short(path)}:{node.lineno}")
        self.assertEqual({name: where for name, where in found.items() if len(where) > 1}, {})

    def test_vocabulary(self) -> None:
        """No identifier of the package has a word for which the vocabulary has another."""
        wrong = []
        for path in sources("portfwd"):
            known = KNOWN_WORDS.get(short(path), set())
            with path.open("rb") as file:
                for token in tokenize.tokenize(file.readline):
                    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", token.string).lower().split("_")
                    if token.type == tokenize.NAME and UNUSED_WORDS.keys() & set(words) - known:
                        wrong.append(f"{short(path)}:{token.start[0]}: {token.string}")
        self.assertEqual(wrong, [])

    def test_imports_have_no_cycle(self) -> None:
        """No module imports itself through others, not even for its types or within a function."""
        if grimp is None:
            raise SkipTest("grimp comes with import-linter")
        # Without a cache: it does not notice a module that was added.
        graph = grimp.build_graph("portfwd", exclude_type_checking_imports=False, cache_dir=None)
        imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
        # Remove what imports nothing that is left, as long as there is such a module: the rest is on a
        # cycle, or imports one that is.
        before = -1
        while len(imports) != before:
            before = len(imports)
            imports = {
                one: others & imports.keys() for one, others in imports.items() if others & imports.keys()
            }
        imported = set().union(*imports.values())
        self.assertEqual({one: others for one, others in imports.items() if one in imported}, {})

    def test_sizes(self) -> None:
        """A module of the package has at most `MAX_LINES`, or a reason above; one with a reason has more."""
        sizes = {short(path): len(path.read_text().splitlines()) for path in sources("portfwd")}
        longer = {name: size for name, size in sizes.items() if size > MAX_LINES}
        self.assertEqual({name: size for name, size in longer.items() if name not in LONGER}, {})
        self.assertEqual([name for name in LONGER if name not in longer], [], "short enough now, or gone")

    def test_tests_say_what_they_show(self) -> None:
        """Every test has a docstring that states the behaviour."""
        silent = [
            f"{short(path)}:{node.lineno}: {node.name}"
            for path in sources("tests")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and ast.get_docstring(node) is None
        ]
        self.assertEqual(silent, [])

    def test_test_packages(self) -> None:
        """Every directory with code or tests is a package: neither trial nor mypy reports what it misses."""
        bare = {
            short(path.parent)
            for path in sources("portfwd", "tests")
            if (path.name.startswith("test_") or short(path).startswith("portfwd"))
            and not (path.parent / "__init__.py").exists()
        }
        self.assertEqual(bare, set())

    def test_questions_for_a_class(self) -> None:
        """What moves bytes asks few objects for their class."""
        found = [
            f"{short(path)}:{node.lineno}"
            for path in sources("portfwd/streams", "portfwd/relay")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ]
        self.assertLessEqual(len(found), MAX_CLASS_QUESTIONS, found)

    def test_private_reaches(self) -> None:
        """Tests use public names of what they test."""
        found = [
            f"{short(path)}:{node.lineno}: {ast.unparse(node)}"
            for path in sources("tests")
            for node in private_reaches(ast.parse(path.read_text()))
        ]
        self.assertLessEqual(len(found), MAX_PRIVATE_REACHES, "\n".join(found))

    def test_private_reaches_are_found(self) -> None:
        """Reading, setting, patching and importing count; own names and documented ones do not."""
        for text, count in (
            ("one._state", 1),
            ("one._state = self._other._place", 2),
            ("self.patch(one, '_state', 1)", 1),
            ("mock.patch.object(one, '_state')", 1),
            ("getattr(one, '_state')", 1),
            ("mock.patch('portfwd.listen.listener.Listener._accept')", 1),
            ("from portfwd.admin.operator_port import OperatorPort, _Client", 1),
            ("self._state = cls._state + super()._state", 0),
            ("one.__class__, name._replace(host=''), getattr(one, 'state'), name.replace('-', '_x')", 0),
            ("from portfwd import __version__", 0),
        ):
            self.assertEqual(len(list(private_reaches(ast.parse(text)))), count, text)
