"""A hub on this machine."""

import pytest

from tests.fetching.hub_server import running_hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub(monkeypatch, tmp_path / "home") as running:
        yield running
