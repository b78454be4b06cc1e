"""WHAT: a message read as a command, and the privileges it needs. Knows no user and no connection."""
