"""A Twisted program with a forwarder inside."""

from twisted.internet import reactor

import portfwd

service = portfwd.forward(reactor, "127.0.0.1:8092 -> 127.0.0.1:8093  idle=5m")
service.startService()
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
