"""What the tests of several packages share, and in which order they run."""

import pytest

from discern import paths


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Where the record of a planted model's weights will stand, in an empty project."""
    monkeypatch.chdir(tmp_path)
    record = tmp_path / paths.WEIGHTS_FETCHED.format(model="planted")
    record.parent.mkdir(parents=True)
    return record


def pytest_collection_modifyitems(items):
    """Files with tests of the one long run of the workflow come first: it takes longest, and all cores."""
    long = {item.path for item in items if "finished" in item.fixturenames}
    items.sort(key=lambda item: item.path not in long)
