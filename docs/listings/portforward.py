"""A Twisted program that forwards a port."""

from twisted.internet import endpoints, reactor

import portfwd

factory = portfwd.ProxyFactory("127.0.0.1", 8093, idle="5m", max_conns=1000)
endpoints.serverFromString(reactor, "tcp:8095:interface=127.0.0.1").listen(factory)
reactor.run()
