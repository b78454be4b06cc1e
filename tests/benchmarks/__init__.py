"""Repeatable measurements; not run by the test command."""
