"""Control sockets, manholes and web listeners of a running forwarder."""
