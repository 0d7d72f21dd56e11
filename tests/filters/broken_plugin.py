"""A plug-in that cannot be imported."""

import no_such_library  # noqa: F401 - there is none
