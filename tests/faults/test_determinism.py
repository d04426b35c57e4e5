"""The same study on the same machine gives the same files, whatever the number of cores and threads."""

import pytest

from tests.faults.study import STUDY, contents, forget
from tests.survived import survived

#: Not explain_rise, whose networks sum in another order with other threads (docs/faults.md).
RULES = ("prepare_dataset", "extract_features", "fit_svm", "embed_umap")


@pytest.mark.faults
@pytest.mark.parametrize(
    "arguments",
    [("--cores", "1"), ("--cores", "2", "--set-threads", *(f"{rule}=2" for rule in RULES))],
    ids=["one core", "two threads for each job"],
)
def test_cores_and_threads_do_not_change_a_byte(undisturbed, project, arguments):
    """Jobs get other numbers of threads, run in another order, and beside others or alone."""
    expected = contents(undisturbed)
    forget(project)
    run = project.snakemake(*arguments, study=STUDY)
    assert run.status == 0, run.text[-5000:]
    found = contents(project)
    differing = sorted(f for f in expected.keys() | found.keys() if expected.get(f) != found.get(f))
    assert not differing
    tables = sum(f.endswith((".parquet", ".safetensors")) for f in found)
    survived(
        "the same study with other cores and threads", f"{tables} tables", tried=1, losses=len(differing)
    )
