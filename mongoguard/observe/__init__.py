"""HAPPENED: audit events and metrics as values. No I/O."""
