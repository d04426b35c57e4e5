"""Jobs cancelled, a node down, memory and time short, controller and Snakemake killed: nothing is lost."""

import contextlib
import os
import signal
from collections import defaultdict

import pytest

from tests.slurm import faulty, study
from tests.slurm.cluster import say, until
from tests.slurm.comparing import cells, same
from tests.survived import survived

pytestmark = pytest.mark.slurm

FEATURES = "results/shared/features/my_table/{}.parquet"
SCORES = "results/faults/svm/my_table/{}/{}.{}"
PROTOCOLS = ("image", "group")
#: Models whose features are still being extracted when Snakemake is killed.
UNFINISHED = ("outlived", "unwatched")


class Scene:
    """The project, its Slurm, and the jobs of this test alone."""

    def __init__(self, project, cluster):
        self.project, self.cluster = project, cluster
        self.before = {job["JobId"] for job in cluster.jobs()}

    def jobs(self):
        """Slurm jobs by their comment, in the order of submission."""
        found = defaultdict(list)
        for job in sorted(self.cluster.jobs(), key=lambda job: int(job["JobId"])):
            if job["JobId"] not in self.before:
                found[job["Comment"]].append(job)
        return found

    def extraction(self, model):
        """All Slurm jobs that extracted a model's features."""
        return self.jobs()[f"rule_extract_features_wildcards_my_table_{model}"]

    def ran(self, model, state):
        """Whether the model's first job has come to this state."""
        jobs = self.extraction(model)
        return bool(jobs) and jobs[0]["JobState"] == state

    def begun(self, model):
        return (self.project.path / "hold" / f"{model}.begun").exists()

    def hold(self, model):
        (self.project.path / "hold" / model).touch()

    def release(self, model):
        (self.project.path / "hold" / model).unlink()


#: What happens to each model's job, as the table says it.
WORDS = {
    "cancelled": "a job cancelled",
    "downed": "a node set down at work",
    "hungry": "a job killed for memory",
    "overdue": "a job past its time limit",
}


@pytest.fixture(scope="module")
def survivors(checkout, cluster):
    """One run of the faults' study, Snakemake killed in its middle and started again."""
    project, local = checkout
    scene = Scene(project, cluster)
    for model in faulty.HELD:
        scene.hold(model)
    main = study.submitted(project, file=faulty.FILE)
    try:
        _hurt(scene)
        main.send_signal(signal.SIGKILL)
        main.wait()
        finished = _stamps(project)  # only now: Snakemake touches the files of a group that has ended
        # One job ends while no Snakemake is there, the other when the next one is already waiting for it.
        scene.release("unwatched")
        until(lambda: scene.ran("unwatched", "COMPLETED"), 60, "the job that outlived its Snakemake")
        main = study.submitted(project, file=faulty.FILE)
        until(
            lambda: b"waiting for Slurm jobs" in study.log_of(project).read_bytes(), 60, "the new Snakemake"
        )
        scene.release("outlived")
        status = main.wait(timeout=300)
    finally:
        for model in faulty.HELD:
            (project.path / "hold" / model).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.kill(main.pid, signal.SIGINT)
    assert status == 0, study.log_of(project).read_text()[-20000:]
    return scene, local, finished


def _hurt(scene):
    """Everything that can happen to jobs, while Snakemake looks on."""
    log, slurm = study.log_of(scene.project), scene.cluster
    until(lambda: all(map(scene.begun, faulty.HELD)), 180, f"five held jobs, see {log}")
    slurm.restart_controller()
    say("scancel", scene.extraction("cancelled")[0]["JobId"])
    say("scontrol", "update", f"JobId={scene.extraction('overdue')[0]['JobId']}", "TimeLimit=1")
    say("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    for model in ("cancelled", "downed"):
        scene.release(model)
    until(lambda: len(scene.extraction("downed")) > 1, 60, f"a second attempt, see {log}")
    say("scontrol", "update", "NodeName=n2", "State=RESUME")
    until(lambda: scene.ran("overdue", "TIMEOUT"), 150, "the time limit")
    scene.release("overdue")
    done = [model for model in faulty.MODELS if model not in UNFINISHED]
    until(lambda: all(_fitted(scene, model) for model in done), 300, f"all but two models, see {log}")
    until(lambda: all(jobs[-1]["JobState"] == "COMPLETED" for jobs in _ended(scene)), 60, "their jobs")


def _fitted(scene, model):
    names = [SCORES.format(model, protocol, "classifier.safetensors") for protocol in PROTOCOLS]
    return all((scene.project.path / name).exists() for name in names)


def _ended(scene):
    return [jobs for name, jobs in scene.jobs().items() if not name.endswith(UNFINISHED)]


def _stamps(project):
    """When every result was written, by its path."""
    files = [f for f in (project.path / "results/faults/svm").rglob("*") if f.is_file()]
    files += (project.path / "results/shared/features/my_table").glob("*.parquet")
    return {f: f.stat().st_mtime_ns for f in files}


def test_results_are_those_of_an_undisturbed_run(survivors):
    scene, local, _ = survivors
    made = scene.project.path
    kinds = ("scores.parquet", "predictions.parquet", "classifier.safetensors")
    files = [SCORES.format("steady", protocol, kind) for protocol in PROTOCOLS for kind in kinds]
    wrong = [f for f in files if not same(local / f.removeprefix("results/"), made / f)]
    for model in faulty.MODELS:  # one network under several names gives the same numbers
        for protocol in PROTOCOLS:
            for kind in kinds[:2]:
                mine, steady = (made / SCORES.format(m, protocol, kind) for m in (model, "steady"))
                wrong += [mine] if cells(mine) != cells(steady) else []
    assert wrong == []
    assert (made / "results/faults/report/index.html").is_file()


@pytest.mark.parametrize(
    ("model", "state"),
    [("cancelled", {"CANCELLED"}), ("downed", {"NODE_FAIL", "CANCELLED", "FAILED"}), ("overdue", {"TIMEOUT"}),
     ("hungry", {"FAILED", "OUT_OF_MEMORY", "CANCELLED"})],
)  # fmt: skip
def test_a_job_that_met_a_fault_ran_again_with_twice_the_memory_and_time(survivors, model, state):
    scene, _, _ = survivors
    first, *others = scene.extraction(model)
    assert first["JobState"] in state
    assert [job["JobState"] for job in others[-1:]] == ["COMPLETED"]
    memory = [
        int(job["MinMemoryNode"].rstrip("MG")) * (1000 if job["MinMemoryNode"][-1] == "G" else 1)
        for job in (first, others[0])
    ]
    assert memory[1] == 2 * memory[0], memory
    survived(f"Slurm: {WORDS[model]}", load="7 models", injected=1)


def test_no_job_that_had_finished_ran_again(survivors):
    scene, _, finished = survivors
    twice = [
        name for name, jobs in scene.jobs().items() if [j["JobState"] for j in jobs].count("COMPLETED") > 1
    ]
    assert twice == []
    changed = [file for file, stamp in finished.items() if file.stat().st_mtime_ns != stamp]
    assert changed == []
    # Neither the job that ended unwatched nor the one that was waited for.
    for model in UNFINISHED:
        assert [job["JobState"] for job in scene.extraction(model)] == ["COMPLETED"]
    survived(
        "Slurm: Snakemake and the controller killed", load="7 models", injected=2, losses=len(twice + changed)
    )


def test_jobs_that_ended_unwatched_follow_changes_of_their_cards(survivors):
    """What they were made of was written down: a change of a card makes their results again."""
    scene, _, _ = survivors
    assert not study.run(scene.project, "--dry-run", file=faulty.FILE).rules
    scene.project.edit("registry/models/unwatched.yaml", preprocess={"resize": "squash", "size": 48})
    planned = study.run(scene.project, "--dry-run", file=faulty.FILE)
    assert ("extract_features", "dataset=my_table, model=unwatched") in planned.jobs
