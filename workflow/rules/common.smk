"""Study, plan and the few functions that turn wildcards into the plan's values."""

import gc
from types import SimpleNamespace

from snakemake.io import IOFile
from snakemake.settings.types import DeploymentMethod

from discern import paths, preflight
from discern.config import load_study
from discern.errors import DiscernError
from discern.locks import release_stale_lock
from discern.matrix import cells
from discern.plan import Plan, dump
from discern.run_record import RunRecord, skipped_cells

# The DAG is made of objects that live as long as the process: Python need not look through all of
# them whenever some are added.
gc.set_threshold(200_000, 20, 20)

CONFIG_FILES = list(dict.fromkeys(["config.yaml", *map(str, workflow.overwrite_configfiles)]))
USES_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method

try:
    PLAN = Plan(load_study(config, CONFIG_FILES), workflow.basedir, USES_CONDA)
    preflight.check_cards(PLAN.study, PLAN.registry)
except DiscernError as error:
    sys.exit(f"error: {error}")

STUDY = PLAN.study
if workflow.is_main_process:
    print(preflight.summary(STUDY, PLAN.registry), file=sys.stderr)
    if release_stale_lock():
        print("released the lock of a run that was killed", file=sys.stderr)

RUN = RunRecord(STUDY.study, Path(PLAN.here(paths.RUN)), skipped_cells(cells(STUDY, PLAN.registry)))
if workflow.is_main_process:
    logger.addHandler(RUN)


wildcard_constraints:
    model="[a-z0-9_@]+",
    dataset="[a-z0-9_@]+",
    protocol="[a-z]+",
    env="[a-z0-9_]+",
    digest="[0-9a-f]{16}",


def model_env(wildcards):
    return PLAN.model(wildcards.model).environment


def weights_of(wildcards):
    """The record of a model's weights: variants share the files of their model where they can."""
    return paths.WEIGHTS_FETCHED.format(model=PLAN.registry.models.owner(wildcards.model))


def files_of(wildcards):
    """The record of a data set's files: readings share those of their data set where they can."""
    return paths.DATASET_FETCHED.format(dataset=PLAN.registry.datasets.owner(wildcards.dataset))


def features_of(wildcards):
    """A model's features on a data set: a reading that is a subset shares those of its data set."""
    return paths.FEATURES.format(
        dataset=PLAN.registry.datasets.images(wildcards.dataset), model=wildcards.model
    )


def env_of(env, wildcards):
    return env(wildcards) if callable(env) else env


def built(env):
    """Input: the environment's lock. Its age never matters, its pins are in the path."""
    return lambda wildcards: [ancient(f) for f in PLAN.environment_lock(env_of(env, wildcards))]


def pins(env):
    """The environment file for conda: a path, or a function where the model decides."""
    return (
        (lambda wildcards: PLAN.environment_file(env(wildcards)))
        if callable(env)
        else PLAN.environment_file(env)
    )


def job(stage, env, code=None):
    """The params every job has. `run` takes `input`, so the workflow does not track it."""
    return {
        "run": lambda wildcards, input, threads: PLAN.command(stage, env_of(env, wildcards), threads),
        "env": lambda wildcards: PLAN.environment_digest(env_of(env, wildcards)),
        "code": code or (lambda wildcards: PLAN.code(stage)),
    }


def for_rise(file):
    """A file of the SVM cell that RISE explains: the protocol is the study's choice."""
    return file.replace("{protocol}", STUDY.rise.protocol)


def analysis_python():
    """An interpreter that can build tables outside a job, or None while there is none."""
    if USES_CONDA:
        pins_file = PLAN.environment_file("analysis")
        prefixes = [e.address for e in workflow.dag.conda_envs.values() if str(e.file) == pins_file]
        candidates = [Path(prefix) / "bin" / "python" for prefix in prefixes]
    else:
        candidates = [Path(PLAN.python("analysis"))]
    return next((str(c) for c in candidates if c.is_file()), None)


def report_failures():
    """After a failed run: tables and report of what exists, failed cells marked with their reasons.

    They are marked incomplete, which they are: the next run makes them, and so all they lack, again.
    """
    if not (python := analysis_python()):
        return
    for stage, output, target in (
        ("build_tables", PLAN.here(paths.TIDY), PLAN.here(paths.TABLES)),
        ("render_report", PLAN.here(paths.REPORT), PLAN.here(paths.REPORT)),
    ):
        command = [
            python,
            str(PLAN.script(stage)),
            "--study",
            dump(STUDY),
            "--out",
            target,
            "--partial",
        ]
        record = Path(PLAN.log(paths.STUDY_LOG, stage))
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("w") as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
        if done.returncode == 0:
            workflow.persistence.started(SimpleNamespace(output=[IOFile(output)]))
    print(
        f"\nSome cells failed; reasons and logs: {PLAN.here(paths.REPORT)}",
        file=sys.stderr,
    )
