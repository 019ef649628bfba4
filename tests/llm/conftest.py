"""The loopback endpoint as a fixture, and a clock that waiting moves on."""

from types import SimpleNamespace

import pytest

from llm.endpoint import Endpoint
from tests.llm.server import Server


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that were waited between attempts, by a clock that stands still but for these."""
    made = []
    monkeypatch.setattr(Endpoint, "sleep", lambda self, seconds: made.append(seconds))
    monkeypatch.setattr("tenacity.time", SimpleNamespace(monotonic=lambda: sum(made)))
    return made


@pytest.fixture
def serve(pauses):
    servers = []

    def start(**how):
        servers.append(Server(**how))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
