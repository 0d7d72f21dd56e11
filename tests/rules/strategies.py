"""Hypothesis strategies: rulesets as parsers could have made them, and damaged texts."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import strategies as st

from portfwd.rules.addresses import address_text
from portfwd.rules.model import (
    DATAGRAM_KINDS,
    TLS_KINDS,
    UNIX_KINDS,
    AccessLogFormat,
    AclEntry,
    CheckSpec,
    Directive,
    FilterSpec,
    Kind,
    ListenOptions,
    ListenSpec,
    LogSpec,
    Options,
    PortRange,
    RouteSpec,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.rules.options import LISTENER, RULE, TARGET, Needs, OptionSpec
from portfwd.rules.tokens import WordFault
from tests.rules.golden import FIXTURES

#: Text without control characters and the blanks that look like others.
texts = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\xa0\u200b\ufeff"),
    min_size=1,
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
hosts = st.one_of(
    st.sampled_from(["web", "a-b.example.com", "tcp", "_x.y.", "xn--bcher-kva.example"]),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
patterns = st.sampled_from(["*", "192.168.1.*", "10.0.0.0/8", "2001:db8::/32", "fe80:*", "10.0.0.?6", "unix"])

#: Texts of values, by the field they are for; every one must be read by its option.
_TEXTS: dict[str, list[str]] = {
    "fingerprints": ["ab" * 32, "AB:" * 31 + "CD,sha256//" + "A" * 43 + "="],
    "duration": ["1s", "90s", "1500ms", "1h", "2m30s", "7.25s"],
    "size": ["4096", "64KiB", "1MiB", "5000"],
    "number": ["1", "17", "65535"],
    "rate": ["1", "200", "1000"],
    "size/s": ["1024", "10MiB/s", "1.5MiB/s"],
    "on | off": ["on", "off"],
    "octal": ["0600", "0", "777"],
    "address": ["10.0.0.1", "192.0.2.7"],
    "name": ["example.com", "10.0.0.1", "2001:db8::1"],
    "list": ["h2", "h2,http/1.1", "a b,#c", 'x"y'],
    "on | off | idle:interval:count": ["on", "off", "60:10:5", "::3", "60::"],
    "file": ["a.pem", "/etc/my file.pem", "#x", 'a"b', "C:\\x"],
    "label": ["shared"],
    "text": ["ECDHE+AESGCM:!aNULL", "a b", "=", "->"],
}


def _fits(option: OptionSpec, text: str) -> bool:
    """Whether a text of the unit is within the bounds of this option."""
    try:
        option.value(text)
    except WordFault as fault:
        return fault.code != "out-of-bounds"
    return True


def _values(option: OptionSpec) -> st.SearchStrategy[Any]:
    choices = [text for text in _TEXTS.get(option.unit) or option.unit.split(" | ") if _fits(option, text)]
    return st.sampled_from([*choices, *([option.unset] if option.unset else [])]).map(option.value)


@st.composite
def _options(
    draw: st.DrawFn, kind: type[Any], table: dict[str, OptionSpec], fits: set[Needs]
) -> dict[str, Any]:
    fitting = [option for option in table.values() if option.needs is Needs.NOTHING or option.needs in fits]
    chosen = draw(st.lists(st.sampled_from(fitting), max_size=5, unique_by=lambda option: option.name))
    return {option.field: draw(_values(option)) for option in chosen}


@st.composite
def _places(draw: st.DrawFn, kinds: list[Kind], ports: int, paths: st.SearchStrategy[str]) -> dict[str, Any]:
    kind = draw(st.sampled_from(kinds))
    if kind in {Kind.TCP, Kind.UDP, Kind.TLS}:
        first = draw(st.integers(1, 65535 - ports))
        return {"kind": kind, "host": draw(hosts), "ports": PortRange(first, first + ports - 1)}
    path = draw(paths.filter(lambda path: 0 < len(path.encode()) < 90 and path.strip() != ""))
    return {"kind": kind, "path": _beneath(kind) + path}


def _beneath(kind: Kind) -> str:
    """What keeps a path or a name from being taken for a port, behind a host that is called unix."""
    return "/" if kind in TLS_KINDS else ""


_TARGETS = [Kind.TCP, Kind.UDP, Kind.TLS, Kind.UNIX, Kind.UNIX_DATAGRAM, Kind.ENDPOINT, Kind.TLS_UNIX]
_paths = texts.filter(lambda text: text != "@")


@st.composite
def rules(draw: st.DrawFn, number: int) -> Rule:
    """A rule; `number` keeps its name and its listener apart from others."""
    kind = draw(st.sampled_from(list(Kind)))
    ports = draw(st.sampled_from([1, 1, 1, 11]))
    host, span, path = "", None, ""
    if kind in {Kind.TCP, Kind.UDP, Kind.TLS}:
        host = draw(st.sampled_from(["", "127.0.0.1", "::1", "localhost", "udp", "web"]))
        span = PortRange(1000 + 20 * number, 1000 + 20 * number + ports - 1)
    else:
        ports = 1
        path = draw(_paths.filter(lambda text: len(text.encode()) < 90 and text.strip() != ""))
        path = f"{_beneath(kind)}{path}{number}"
    targets = [
        TargetSpec(**place)
        for place in draw(st.lists(_places(_TARGETS, ports, _paths), min_size=1, max_size=3))
    ]
    named = [
        evolve(TargetSpec(**draw(_places(_TARGETS, ports, _paths))), name=name)
        for name in draw(st.lists(names.filter(lambda name: name != "close"), max_size=2, unique=True))
    ]
    filters = draw(
        st.lists(
            st.builds(
                FilterSpec,
                texts.filter(lambda text: text.isalpha()),
                st.lists(texts, max_size=2).map(tuple),
                st.lists(st.tuples(names, st.text('ab #"\\=', max_size=5)), max_size=2).map(tuple),
            ),
            max_size=2,
        )
    )
    checks = [CheckSpec(one.name, one.words, one.options) for one in filters if draw(st.booleans())]
    destinations = st.one_of(
        st.none(),
        _places(_TARGETS, ports, _paths).map(lambda place: TargetSpec(**place)),
        *([st.sampled_from(named).map(lambda target: target.name)] if named else []),
    )
    routes = draw(
        st.lists(
            st.builds(RouteSpec, st.lists(texts, min_size=1, max_size=2).map(tuple), destinations),
            max_size=2,
        )
    ) if filters else []  # fmt: skip
    every = [*targets, *named, *(route.target for route in routes if isinstance(route.target, TargetSpec))]
    fits = set()
    if kind in UNIX_KINDS:
        fits.add(Needs.UNIX_LISTENER)
    if kind in TLS_KINDS:
        fits.add(Needs.TLS_LISTENER)
    if kind in DATAGRAM_KINDS:
        fits.add(Needs.DATAGRAM_LISTENER)
    if span is not None and host != "127.0.0.1":
        fits.add(Needs.INET_LISTENER)
    if any(target.kind in TLS_KINDS for target in every):
        fits.add(Needs.TLS_TARGET)
    if any((target.kind in DATAGRAM_KINDS) != (kind in DATAGRAM_KINDS) for target in every):
        fits.add(Needs.MIXED)
    listen = ListenSpec(
        kind, host, span, path, ListenOptions(**draw(_options(ListenOptions, dict(LISTENER), fits)))
    )
    options = Options(**draw(_options(Options, dict(RULE), fits)))
    finished = []
    for target in [*targets, *named]:
        own = {}
        if finished and draw(st.booleans()):
            met = {Needs.TLS_TARGET} if target.kind in TLS_KINDS else set()
            own = draw(_options(Options, dict(TARGET), met))
        finished.append(evolve(target, options=evolve(options, **own)))
    return Rule(
        name=f"r{number}" if draw(st.booleans()) else address_text(listen, quoted=False),
        listen=listen,
        targets=tuple(finished[: len(targets)]),
        options=options,
        access=tuple(draw(acl)),
        filters=tuple(filters),
        checks=tuple(checks),
        routes=tuple(
            evolve(route, target=evolve(route.target, options=options))
            if isinstance(route.target, TargetSpec)
            else route
            for route in routes
        ),
        named_targets=tuple(finished[len(targets) :]),
    )


acl = st.lists(st.builds(AclEntry, st.booleans(), patterns), max_size=3)


#: Lines about the process as a whole.
DIRECTIVES = (
    Directive("metrics", ("127.0.0.1:9100",)),
    Directive("stats-log", (), (("interval", "1m"),)),
    Directive("status-file", ("/run/a b",), (("interval", "5s"), ("format", "text"), ("mode", "0640"))),
    Directive("metrics", ("unix:/run/m",), (("mode", "0660"),)),
    Directive("web", ("127.0.0.1:8080",), (("host", "a,b"),)),
    Directive("limits", (), (("max-conns", "100"),)),
    Directive("limits", (), (("rate-per-source", "5/s"), ("on-limit", "wait"))),
)
#: What `limit=` of rules names.
SHARED = Directive("limits", ("shared",), (("max-conns", "5"), ("rate", "2/m")))


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    """A ruleset as a file could say it."""
    drawn = tuple(draw(rules(number)) for number in range(draw(st.integers(0, 3))))
    return Ruleset(
        rules=drawn,
        access=tuple(draw(acl)),
        log=draw(
            st.builds(
                LogSpec,
                st.none() | st.sampled_from(list(AccessLogFormat)),
                st.none() | texts,
                probes=st.booleans(),
                repeats=st.booleans(),
                opened=st.booleans(),
            )
        ),
        pid_file=draw(st.none() | texts),
        directives=(
            *draw(st.lists(st.sampled_from(DIRECTIVES), max_size=2, unique_by=lambda one: one.name)),
            *([SHARED] if any(rule.options.limit for rule in drawn) else []),
        ),
    )


@st.composite
def damaged(draw: st.DrawFn, suffix: str) -> str:
    """The text of a fixture with pieces of it cut, doubled, or replaced."""
    paths = sorted(path for path in FIXTURES.iterdir() if path.suffix == suffix)
    text = draw(st.sampled_from(paths)).read_text("utf-8")
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(
            st.one_of(
                st.just(""),
                st.just(text[start:end] * 2),
                st.sampled_from(
                    ['"', "\\", "[", "]", "->", ":", "=", ",", "#", "\n", "\r", "\0", "/", "\t", "{", "'"]
                ),
                st.text(max_size=4),
            )
        )
        text = text[:start] + piece + text[end:]
    return text
