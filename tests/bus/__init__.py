"""Laws of the bus, on a real store."""
