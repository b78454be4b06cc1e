"""mongoguard: a server in front of MongoDB that authenticates clients and decides every command."""

__version__ = "0.1.0"
