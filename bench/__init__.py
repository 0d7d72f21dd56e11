"""
The lab: portfwd and other forwarders doing the same work, in turn, on one machine.

``python -m bench`` measures, ``python -m bench --evidence`` looks at one
forwarder at work. A figure alone means little; the ratio to a peer measured in
the same round does. The lab never sends traffic anywhere but to loopback or to
network namespaces that it made itself, and every load ends by count or by time.
"""
