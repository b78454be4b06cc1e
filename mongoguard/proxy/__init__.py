"""THE FLOW: one client connection, still without I/O."""
