"""
Operators: the control socket, its commands, and the manhole.

It knows sessions and rules by what `portfwd.admin.operator` says of them, never the service
that runs them. Whoever looks in may be slow or hostile: nothing here makes traffic wait.
"""
