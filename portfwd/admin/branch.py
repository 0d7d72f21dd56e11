# -*- test-case-name: tests.admin.test_metrics_page -*-
"""A web resource that has only the children that were put there."""

from __future__ import annotations

from typing import Any

from twisted.web.pages import notFound
from twisted.web.resource import Resource


class Branch(Resource):
    """Answers 404 for other paths. Twisted's `Resource` does so by a class that Twisted deprecates."""

    def getChild(self, path: bytes, request: Any) -> Any:
        """See `IResource`."""
        return notFound()
