"""A stack at the other end of a connection: the same protocols over HTTP."""
