# -*- test-case-name: tests.service.build.test_plugins -*-
"""
The plug-ins that rules may name.

Finding them reads the metadata of all installed distributions, so it is done once for a start and for each
reload that a user asks for, and not for rules that a program adds at run time.
"""

from __future__ import annotations

from attrs import field, frozen

from portfwd.filters.registry import Registry
from portfwd.upstreams.checks.registry import CheckRegistry


@frozen(eq=False)
class AvailablePlugins:
    """
    The filters and checks of this Python installation, which are found when a rule needs them.

    :ivar filters: the available filters.
    :ivar checks: the available checks.
    """

    filters: Registry = field(factory=Registry.installed)
    checks: CheckRegistry = field(factory=CheckRegistry.installed)
