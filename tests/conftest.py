"""What the tests of several packages share, and how they are spread over processes."""

import pytest

from discern import paths


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Where the record of a planted model's weights will stand, in an empty project."""
    monkeypatch.chdir(tmp_path)
    record = tmp_path / paths.WEIGHTS_FETCHED.format(model="planted")
    record.parent.mkdir(parents=True)
    return record


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(items):
    """One process a file, and one for all that use the long run of the workflow, which begins first."""
    items.sort(key=lambda item: "finished" not in item.fixturenames)
    for item in items:
        group = "finished" if "finished" in item.fixturenames else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
