"""The loopback endpoint as a fixture."""

import pytest

from llm.endpoint import Endpoint
from tests.llm.server import Server


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_pause", 0)
    servers = []

    def start(**how):
        servers.append(Server(**how))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
