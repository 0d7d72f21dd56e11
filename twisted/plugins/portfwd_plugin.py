# -*- test-case-name: tests.packaging.test_install -*-
"""
What makes ``twistd portfwd`` exist.

One statement and one import, on purpose: when this file fails to import, twistd
says no more than "Unknown command". The work is in `portfwd.service.tap`.
"""

from twisted.application.service import ServiceMaker

portfwd = ServiceMaker(
    "portfwd",
    "portfwd.service.tap",
    "Forward ports by a rules file; rinetd's files work unchanged.",
    "portfwd",
)
