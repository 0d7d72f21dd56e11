# -*- test-case-name: tests.packaging.test_install -*-
"""
What makes ``endpoint:"portfwd-greeting:"`` exist, the upstream of the quick start.

Apart from `portfwd_plugin`, so that ``twistd portfwd`` is there whatever becomes of this.
"""

from portfwd.service.daemon.greeting import GreetingParser

greeting = GreetingParser()
