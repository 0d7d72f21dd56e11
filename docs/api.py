# -*- test-case-name: tests.test_docs_api -*-
"""
Reference of the Python interface, made from signatures and docstrings.

`docs.generate` writes it into pages, so that they can be read without a build. A page names what it
describes: ``<!-- api: MODULE NAME NAME ... -->``. If the module imports a name from another module of this
repository, the name is looked up there. The source is parsed and not imported, so that every version of
Python makes the same text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from attrs import frozen

from docs.docstrings import markdown
from docs.tables import table

ROOT: Final = Path(__file__).resolve().parents[1]
API: Final = re.compile(
    r"^<!-- api: (?P<module>[\w.]+)(?P<names>(?:\s+\w+)*)\s*-->\n(?P<body>.*?)^<!-- end of api -->$",
    re.MULTILINE | re.DOTALL,
)
#: Characters of a signature that stand in one line.
WIDTH: Final = 96

Function = ast.FunctionDef | ast.AsyncFunctionDef
Links = Callable[[str], "str | None"]


@frozen
class Module:
    """The source of one module."""

    name: str
    text: str
    tree: ast.Module

    def code(self, node: ast.AST) -> str:
        """The source of `node`, in one line."""
        return " ".join((ast.get_source_segment(self.text, node) or "").split())

    def comment(self, node: ast.stmt) -> str:
        """What the ``#:`` comment says above `node`, or behind it."""
        lines = self.text.splitlines()
        behind = lines[(node.end_lineno or node.lineno) - 1].partition("#: ")[2]
        above: list[str] = []
        number = node.lineno - 2
        while number >= 0 and lines[number].strip().startswith("#:"):
            above.insert(0, lines[number].strip()[2:].strip())
            number -= 1
        return behind or " ".join(above)


@frozen
class Found:
    """One name: where it is defined, and how."""

    module: Module
    node: ast.stmt

    @property
    def has_heading(self) -> bool:
        """Whether it is a class or a function; constants are rows of a table."""
        return isinstance(self.node, ast.ClassDef | Function)


@cache
def read_module(root: Path, name: str) -> Module:
    """
    The module of that name.

    :raises LookupError: there is none below `root`.
    """
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            text = path.read_text("utf-8")
            return Module(name, text, ast.parse(text))
    raise LookupError(f"there is no module {name}")


def find(root: Path, module: str, name: str) -> Found:
    """
    The definition of `name`, also in a module from which `module` imports it.

    :raises LookupError: there is none.
    """
    source = read_module(root, module)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                if (one.asname or one.name) == name:
                    return find(root, node.module or "", one.name)
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef | Function) and node.name == name:
            return Found(source, node)
        if name in _assigned(node):
            return Found(source, node)
    raise LookupError(f"{module} has no {name}")


def _assigned(node: ast.stmt) -> list[str]:
    """The names to which a statement assigns."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return [one.id for one in targets if isinstance(one, ast.Name)]


def described(text: str) -> Iterator[tuple[str, str]]:
    """Every name that a page describes, with the module that the page names."""
    for match in API.finditer(text):
        for name in match["names"].split():
            yield match["module"], name


def fill(text: str, links: Links, root: Path = ROOT) -> str:
    """`text` with the description of every name below its comment."""

    def made(match: re.Match[str]) -> str:
        head = match[0][: match.start("body") - match.start()]
        found = {name: find(root, match["module"], name) for name in match["names"].split()}
        constants = [_constant(one, name, links) for name, one in found.items() if not one.has_heading]
        rows = table(("name", "meaning"), constants) + "\n\n" if constants else ""
        entries = "\n".join(entry(one, links) for one in found.values() if one.has_heading)
        return f"{head}\n{rows}{entries}\n<!-- end of api -->".replace("\n\n\n", "\n\n")

    return API.sub(made, text)


def page_links(pages: Mapping[Path, str], page: Path, root: Path = ROOT) -> Links:
    """
    For a reference in a docstring: the link from `page` to its description, if one of `pages` has it.

    A plain word in small letters is mostly an argument, so it only leads to a function of the page itself.
    """
    places: dict[str, str] = {}
    modules: dict[str, str] = {}
    # A name that several pages describe is looked up on the page itself first.
    for other, text in sorted(pages.items(), key=lambda item: item[0] == page):
        for module, name in described(text):
            modules[module] = other.name
            has_heading = find(root, module, name).has_heading
            if other == page and has_heading:
                places[name] = f"#{name.lower()}"
            elif not name.islower() or "_" in name:
                places[name] = f"{other.name}#{name.lower()}" if has_heading else other.name

    def link(reference: str) -> str | None:
        if reference in modules:
            return None if modules[reference] == page.name else modules[reference]
        words = reference.split(".")
        if words[0] not in ("portfwd", *places):
            return None  # of another package, though a name of it may be like one of ours
        return next((places[one] for one in words if one in places and one not in modules), None)

    return link


def entry(found: Found, links: Links) -> str:
    """Heading, signature and text of a class or a function."""
    node, module = found.node, found.module
    if isinstance(node, ast.ClassDef):
        signature, parts = _class(module, node, links)
    else:
        assert isinstance(node, Function)
        signature, parts = _signature(module, node), [_text(node, links)]
    text = "\n\n".join(part for part in parts if part)
    return f"### {node.name}\n\n```python\n{signature}\n```\n\n{text}\n"


def _text(node: ast.ClassDef | Function, links: Links, heading: str = "") -> str:
    return markdown(ast.get_docstring(node) or "", links, heading)


def _constant(found: Found, name: str, links: Links) -> tuple[str, str]:
    """A row of a table: the name, with its value if that is a plain one, and the meaning."""
    value = getattr(found.node, "value", None)
    plain = isinstance(value, ast.Constant | ast.BinOp) and len(found.module.code(value)) < 20
    shown = f"{name} = {found.module.code(value)}" if plain and value is not None else name
    return f"`{shown}`", markdown(found.module.comment(found.node), links)


def _class(module: Module, node: ast.ClassDef, links: Links) -> tuple[str, list[str]]:
    """The signature of a class, and its text: docstring, attributes, methods."""
    parts = [_text(node, links, "" if _is_attrs(module, node) else "Attributes:")]
    bases = {module.code(one) for one in node.bases}
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    # A constructor without a docstring is called by portfwd only.
    made = [one for one in node.body if getattr(one, "name", "") == "__init__" and ast.get_docstring(one)]
    if any(base.endswith("Enum") for base in bases):
        parts.append(_members(module, node, links))
        return f"class {node.name}({', '.join(sorted(bases))})", parts
    if _is_attrs(module, node):
        words = [_field(module, one) for one in fields if _in_init(one)]
        signature = _laid_out(f"class {node.name}", words, "")
    elif made:
        signature = (
            _signature(module, made[0]).replace("def __init__", f"class {node.name}").removesuffix(" -> None")
        )
        parts.append(_text(made[0], links, "Arguments:"))
    else:
        signature = f"class {node.name}" + (f"({', '.join(sorted(bases))})" if bases else "")
        attributes = [_attribute(module, one, links) for one in fields if _is_public(one)]
        if attributes:
            parts.append("Attributes:\n\n" + "\n".join(attributes))
    methods = [text for one in node.body if isinstance(one, Function) for text in _method(module, one, links)]
    if methods:
        parts.append("Methods:\n\n" + "\n".join(methods))
    return signature, parts


def _is_attrs(module: Module, node: ast.ClassDef) -> bool:
    """Whether attrs makes the constructor, or `typing.NamedTuple` does."""
    words = [module.code(one) for one in (*node.decorator_list, *node.bases)]
    return any(re.match(r"(attrs\.)?(frozen|define)\b|NamedTuple$", word) for word in words)


def _is_public(node: ast.AnnAssign) -> bool:
    return isinstance(node.target, ast.Name) and not node.target.id.startswith("_")


def _call(node: ast.expr | None, *names: str) -> dict[str, ast.expr] | None:
    """The keywords of a call of one of `names`; None for everything else."""
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
        return {one.arg: one.value for one in node.keywords if one.arg}
    return None


def _in_init(node: ast.AnnAssign) -> bool:
    """Whether the constructor has an argument for a field of an attrs class."""
    keywords = _call(node.value, "field") or {}
    init = keywords.get("init")
    never = isinstance(init, ast.Constant) and init.value is False
    annotation = ast.unparse(node.annotation)
    return _is_public(node) and not never and not annotation.startswith("ClassVar")


def _field(module: Module, node: ast.AnnAssign) -> str:
    """A field of an attrs class as an argument."""
    keywords = _call(node.value, "field", "option")
    default = node.value if keywords is None else keywords.get("default")
    written = module.code(default) if default is not None else ""
    if keywords and "factory" in keywords:
        written = (
            f"{module.code(keywords['factory'])}()" if isinstance(keywords["factory"], ast.Name) else "..."
        )
    text = f"{module.code(node.target)}: {module.code(node.annotation)}"
    return f"{text} = {written}" if written else text


def _attribute(module: Module, node: ast.AnnAssign, links: Links) -> str:
    """An attribute of a class, or of an interface, which says what it is."""
    name, kind = module.code(node.target), module.code(node.annotation)
    kind = re.sub(r"^ClassVar\[(.*)\]$", r"\1", kind)
    said = module.comment(node)
    if _call(node.value, "Attribute") is not None and isinstance(node.value, ast.Call):
        said = str(ast.literal_eval(node.value.args[0]))
        return f"- `{name}: {kind}`: {markdown(said, links)}."
    written = f" = {module.code(node.value)}" if node.value is not None else ""
    return f"- `{name}: {kind}{written}`" + (f": {markdown(said, links)}" if said else "")


def _members(module: Module, node: ast.ClassDef, links: Links) -> str:
    """The members of an enumeration."""
    told = [
        (name, markdown(module.comment(one), links))
        for one in node.body
        for name in _assigned(one)
        if not name.startswith("_")
    ]
    if any(text for _name, text in told):
        return "Members:\n\n" + "\n".join(
            f"- `{name}`" + (f": {text}" if text else "") for name, text in told
        )
    return "Members: " + ", ".join(f"`{name}`" for name, _text in told) + "."


def _method(module: Module, node: Function, links: Links) -> Iterator[str]:
    """A public method that says more than where it is described."""
    text = ast.get_docstring(node) or ""
    if node.name.startswith("_") or not text or re.match(r"See `", text):
        return
    decorators = [module.code(one) for one in node.decorator_list]
    if any(one.endswith(".setter") for one in decorators):
        return
    signature = re.sub(r"\(\s+", "(", _signature(module, node)).replace(",\n)", ")")
    shown = " ".join(signature.split())
    shown = re.sub(r"^(async )?def ", r"\1", shown)
    if "property" in decorators:
        shown = re.sub(r"^(\w+)\(\) -> ", r"\1: ", shown)
    lines = markdown(text, links).splitlines()
    yield "\n".join([f"- `{shown}`: {lines[0]}", *(f"  {line}".rstrip() for line in lines[1:])])


def _signature(module: Module, node: Function) -> str:
    """A function's name, arguments and result."""
    arguments = node.args
    shown = [
        one
        for number, one in enumerate([*arguments.posonlyargs, *arguments.args])
        if number or one.arg not in ("self", "cls")
    ]
    defaults: list[ast.expr | None] = [None] * len(shown)
    if arguments.defaults:
        defaults[-len(arguments.defaults) :] = arguments.defaults
    words = [_argument(module, one, default) for one, default in zip(shown, defaults, strict=True)]
    if arguments.vararg:
        words.append(f"*{_argument(module, arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        words.append("*")
    words += [
        _argument(module, one, default)
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        words.append(f"**{_argument(module, arguments.kwarg, None)}")
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {module.code(node.returns)}" if node.returns else ""
    return _laid_out(f"{prefix} {node.name}", words, result)


def _argument(module: Module, node: ast.arg, default: ast.expr | None) -> str:
    text = f"{node.arg}: {module.code(node.annotation)}" if node.annotation else node.arg
    if default is None:
        return text
    return f"{text} = {module.code(default)}" if node.annotation else f"{text}={module.code(default)}"


def _laid_out(head: str, words: list[str], result: str) -> str:
    """A signature in one line, or with a line for each argument."""
    line = f"{head}({', '.join(words)}){result}"
    if len(line) <= WIDTH:
        return line
    return f"{head}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}"
