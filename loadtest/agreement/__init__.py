"""``make agreement``: one experiment at several sizes, by real devices and by the simulator, laid over each other."""
