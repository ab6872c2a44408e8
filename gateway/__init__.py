"""What holds sockets: one process per core, each with tens of thousands of hibernating connections."""
