# -*- test-case-name: tests.packaging.test_install -*-
"""
What makes ``twistd --reactor=portfwd`` exist.

Apart from `portfwd_plugin`, so that ``twistd portfwd`` is there whatever becomes of this.
"""

from twisted.application.reactors import Reactor

reactor = Reactor(
    "portfwd", "portfwd.kernel.event_loop", "waits on portfwd's epoll set, by a monotonic clock (Linux)"
)
