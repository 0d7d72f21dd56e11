"""Step 1: a filter that does nothing."""

from portfwd.filters import Filter


class SSHOnly(Filter):
    """Refuses clients that do not speak SSH, one day."""
