"""
For people who write filters, and for the tests of portfwd itself.

`portfwd.testing.peers` has scripted peers on real sockets, whose cases read as
conversations; `portfwd.testing.script` is their language;
`portfwd.testing.data` the checked bytes they send. Nothing here is imported
by the forwarder.
"""
