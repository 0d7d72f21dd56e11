# -*- test-case-name: tests.rules.test_codes -*-
"""
All codes of problems in rules files, with one sentence each.

The reference is generated from this table. `Findings` accepts no other code, and the tests have a file for
each code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # the text
        "bad-character": "An invisible character stands where only text may.",
        "bad-quote": "A quote opens or closes in the middle of a word.",
        "line-too-long": "A line has more characters than a line may have.",
        "unclosed-quote": "A quoted value does not end on its line.",
        # files
        "unreadable-file": "A file could not be read.",
        "not-utf-8": "A file is not UTF-8 text.",
        "file-too-large": "A file is larger than a rules file may be.",
        "include-depth": "Files include each other more than ten deep.",
        "include-cycle": "A file includes itself, directly or through others.",
        "include-no-match": "An include names no file; with a pattern that matches none it is a warning.",
        "include-without-files": "An include stands in rules that are not read from a file.",
        "too-many-files": "The includes bring in more files than are read.",
        "too-many-problems": "There are more problems than are shown.",
        # lines
        "foreign-format": "The file is the configuration of another program.",
        "unknown-directive": "A line begins with a word that is no directive and no address.",
        "bad-rule": "A line is neither LISTEN -> TARGET nor rinetd's four words.",
        "bad-arrow": "The arrow of a rule is spelt in another way, or has no blank on a side.",
        "unexpected-word": "There is a word too many.",
        "missing-argument": "A directive or clause lacks the word it needs.",
        "missing-listen": "A rule says nowhere to listen.",
        "missing-target": "A rule, target or route says nowhere to go.",
        "missing-comma": "Two targets stand side by side without a comma.",
        "missing-bracket": "rinetd's options lack a bracket.",
        "bad-name": "The name of a rule, target or limit is not made of letters, digits, '_', '.' and '-'.",
        "clause-without-rule": "A filter, target or route stands beneath no rule.",
        "clause-not-indented": "A filter, target or route is not indented beneath its rule.",
        "repeated-directive": "A directive replaces an earlier one (a warning).",
        "open-listener": "A web listener that other machines reach asks for no token (a warning).",
        "directive-without-meaning": "A directive of another program has no meaning here (a warning).",
        "option-without-meaning": "An option of another program has no meaning here (a warning).",
        # addresses
        "bad-address": "An address cannot be understood.",
        "bad-host": "A host is neither a name nor an address.",
        "bad-path": "The name of a unix or systemd socket is empty or too long.",
        "bad-endpoint": 'An endpoint is not written endpoint:"description".',
        "unbracketed-ipv6": "An IPv6 address with a port lacks its brackets.",
        "missing-host": "A target has no host.",
        "missing-port": "An address has no port.",
        "bad-port": "A port is not a number from 0 to 65535, a range or a service.",
        "port-zero": "Port 0 stands where no port can be chosen.",
        "unknown-service": "A port is named by a service that this machine does not know.",
        "bad-range": "A range of ports runs backwards.",
        "bad-protocol": "A protocol is not tcp or udp, or contradicts the prefix.",
        "listener-only": "A target is of a kind that can only be listened on.",
        # options
        "unknown-option": "There is no option of this name.",
        "misplaced-option": "An option stands where it does not belong.",
        "duplicate-option": "An option is given twice.",
        "bad-value": "The value of an option or directive cannot be understood.",
        "out-of-bounds": "The value of an option is smaller or larger than it may be.",
        "option-without-effect": "An option, or a pattern of a route, acts on nothing here; a warning.",
        "option-does-not-fit": "An option has no meaning for this kind of listener or target.",
        # access lists
        "bad-pattern": "A pattern of allow or deny cannot be understood.",
        "access-across-files": "An allow or deny line belongs to a rule of another file (a warning).",
        "access-is-not-global": (
            "An allow or deny line belongs to the rule above it; oxidinetd calls it global (a warning)."
        ),
        # the whole file
        "duplicate-name": "Two rules have the same name.",
        "duplicate-target": "A rule, or a name of its targets, has the same target twice; it is used once.",
        "listen-clash": "Two rules, or lines for operators, listen on the same address.",
        "listen-overlap": "A listener's address is covered by the wildcard of another one.",
        "loop": "A rule forwards to itself, directly or by way of other rules.",
        "possible-loop": "A name, a route or `filter tee` may lead back to the rule (a warning).",
        "range-mismatch": "A range of ports is not as long as the listener's.",
        "unknown-target": "A route names a target that the rule does not have.",
        "trusts-everyone": "A rule believes the PROXY header of every peer, as realm does (a warning).",
        "unused-target": "No route names this target (a warning).",
        "unknown-limit": "A rule has a share in limits that no line of the file names.",
        "unused-limit": "No rule has a share in these limits (a warning).",
        "route-without-filter": "A rule has routes but no filter that could choose one.",
        "source-family": "The address of src= is of another family than the target.",
        "no-rules": "There is no rule; a warning with --allow-empty.",
        # filters
        "unknown-filter": "There is no filter of this name, or no module or class at this import path.",
        "ambiguous-filter": "Two installed packages have a filter of this name.",
        "filter-import-failed": "The module of a filter cannot be imported.",
        "filter-api-version": "A filter is written for another version of the filter contract.",
        "bad-filter": "What a filter's name leads to is no filter, or one whose author has to mend it.",
        "bad-filter-option": "A filter refuses a word or option, or lacks one that it needs.",
        "bad-filter-order": "A filter whose bytes have to come first stands before one that routes.",
        "bad-route-pattern": "A filter refuses a pattern of a route: nothing could match it.",
        "route-without-routing-filter": "A rule has routes, but none of its filters chooses by them.",
        # checks
        "unknown-check": "There is no check of this name, or no module or class at this import path.",
        "bad-check": "What a check's name leads to cannot be imported, or is no check.",
        "bad-check-option": "A check refuses a word or option, or lacks one that it needs.",
        # TOML
        "toml-syntax": "The file is not TOML.",
        "toml-type": "A key has a value of the wrong type.",
        "unknown-key": "There is no key of this name here.",
        "missing-key": "A table lacks a key that it must have.",
        # JSON
        "json-syntax": "The file is not JSON.",
        "json-type": "A key has a value of the wrong type.",
        # YAML
        "yaml-syntax": "The file is not YAML, or has aliases, tags, or more than one document.",
        "yaml-type": "A key has a value of the wrong type.",
        "yaml-not-installed": "A YAML file needs PyYAML, which the extra 'yaml' installs.",
        # what this version cannot do
        "not-yet": "This version reads it but cannot do it yet.",
    }
)
