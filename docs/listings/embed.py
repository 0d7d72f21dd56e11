"""A Twisted application with a forwarder inside: twistd -ny embed.py."""

from twisted.application.service import Application
from twisted.internet import reactor

import portfwd

application = Application("embed")
service = portfwd.forward(reactor, "127.0.0.1:8092 -> 127.0.0.1:8093  idle=5m")
service.setServiceParent(application)
