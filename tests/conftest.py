"""What the tests of several packages share."""

import pytest

from discern import paths


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Where the record of a planted model's weights will stand, in an empty project."""
    monkeypatch.chdir(tmp_path)
    record = tmp_path / paths.WEIGHTS_FETCHED.format(model="planted")
    record.parent.mkdir(parents=True)
    return record
