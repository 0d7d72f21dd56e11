# -*- test-case-name: tests.testing.test_pytest_plugin -*-
"""
Fixtures for pytest: ``portfwd_pipe`` and ``portfwd_forwarder``.

pytest finds them if portfwd is installed. The modules that they need are imported when a test uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from portfwd.testing.pipe import Pipe
    from portfwd.testing.running import RunningForwarder


@pytest.fixture
def portfwd_pipe() -> Iterator[Callable[..., Pipe]]:
    """
    Make sessions without sockets: ``portfwd_pipe(MyFilter)`` is a `portfwd.testing.Pipe`.

    Each session is closed after the test. If a filter raises an exception at the close, the test fails.
    """
    from portfwd.testing.pipe import Pipe

    pipes: list[Pipe] = []

    def make(*filters: object, **options: Any) -> Pipe:
        pipes.append(Pipe(*filters, **options))
        return pipes[-1]

    yield make
    for pipe in pipes:
        pipe.close()


@pytest.fixture
def portfwd_forwarder() -> Iterator[Callable[..., RunningForwarder]]:
    """
    Start forwarders: ``portfwd_forwarder("web: 127.0.0.1:0 -> 127.0.0.1:8080")``.

    Each is a `portfwd.testing.running.RunningForwarder`, which is stopped after the test.
    """
    from portfwd.testing.running import RunningForwarder

    with ExitStack() as stack:

        def start(rules: str, **options: Any) -> RunningForwarder:
            return stack.enter_context(RunningForwarder(rules, **options))

        yield start
