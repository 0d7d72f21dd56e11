"""The relay: the handling of a connection from accept to close."""
