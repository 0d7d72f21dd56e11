"""
portfwd as its users run it: a real ``twistd``, real sockets, real programs.

`forwarder` starts and watches the process, `programs` the other ones, `case`
has the test case with the oracle every reliability case is judged by. A
program that is not installed skips its tests with the reason "needs PROGRAM".
``PORTFWD_TESTS=deep`` in the environment runs the large versions too.
"""
