"""A Twisted application that forwards a port: twistd -ny portforward.py."""

from twisted.application.internet import TCPServer
from twisted.application.service import Application

import portfwd

application = Application("portforward")
factory = portfwd.ProxyFactory("127.0.0.1", 8093, idle="5m", max_conns=1000)
TCPServer(8095, factory, interface="127.0.0.1").setServiceParent(application)
