"""Laws of the pure core. Nothing here needs a server, a socket or a clock."""
