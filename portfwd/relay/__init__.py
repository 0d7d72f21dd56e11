"""The relay: what happens to one connection, from accept to close."""
