"""Fixtures of tests of the server's parts."""

import pytest

from mongoguard.server.client_connection import ClientConnection


@pytest.fixture(params=["quick", "task"])
def way(request, monkeypatch):
    """Who serves a client: quick requests, or its task, as where no connection to the server is at hand."""
    if request.param == "task":
        monkeypatch.setattr(ClientConnection, "_serve_quickly", lambda connection, _: connection._read())
    return request.param
