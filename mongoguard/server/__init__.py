"""THE SHELL: the only Trio. Listeners, the pump, upstream connections, directories, sinks."""
