"""
Operators: the control socket and its commands, the manhole, the web listener and toxiproxy's API.

It uses sessions and rules only through the interfaces of `portfwd.admin.operator`, never through the service.
Clients may be slow or hostile, and never delay traffic.
"""
