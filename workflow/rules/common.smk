"""Study, plan and the few functions that turn wildcards into the plan's values."""

import gc
import inspect
from types import SimpleNamespace

from snakemake.io import IOFile
from snakemake.settings.types import DeploymentMethod

from discern import paths, preflight
from discern.config import load_study
from discern.environments import installed_from
from discern.demands import Demands, has_gpu
from discern.errors import DiscernError
from discern.locks import hold_folder, release_stale_lock
from discern.matrix import cells
from discern.plan import Plan, dump
from discern.run_record import RunRecord, skipped_cells
from discern.slurm_queue import settle

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

STUDY, DEMANDS = PLAN.study, Demands(PLAN.study, PLAN.registry)
if workflow.is_main_process:
    print(preflight.summary(STUDY, PLAN.registry), file=sys.stderr)
    if release_stale_lock():
        print("released the lock of a run that was killed", file=sys.stderr)
    if not {"-n", "--dry-run", "--dryrun", "--lint", "--unlock"} & set(sys.argv):
        settle(say=lambda words: print(words, file=sys.stderr))

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
    """The environment file for conda, with locked versions: a path, or a function where the model decides."""
    return (lambda wildcards: for_conda(env(wildcards))) if callable(env) else for_conda(env)


def for_conda(env):
    return str(installed_from(PLAN.environment_file(env)))


def job(stage, env, code=None):
    """The params every job has. `run` takes `input`, so the workflow does not track it."""
    return {
        "run": lambda wildcards, input, threads: PLAN.command(stage, env_of(env, wildcards), threads),
        "env": lambda wildcards: PLAN.environment_digest(env_of(env, wildcards)),
        "code": code or (lambda wildcards: PLAN.code(stage)),
    }


def demand(rule):
    """Resources: memory and run time by model and data set, twice as much at each further attempt."""

    def asked(wildcards):
        return DEMANDS.of(rule, wildcards.get("dataset"), wildcards.get("model"))

    return {
        "mem_mb": lambda wildcards, attempt: asked(wildcards).mem_mb(attempt),
        "runtime": lambda wildcards, attempt: asked(wildcards).runtime(attempt),
    }


def gpus(wildcards):
    """Resources: a GPU, if the card asks for one; on this machine only if it has any to wait for."""
    return int(PLAN.model(wildcards.model).gpu and (not workflow.local_exec or has_gpu()))


def record_unwatched():
    """Write down what files were made of whose jobs ended on a cluster while no Snakemake was there."""
    if workflow.local_exec:
        return
    for made in [job for job in workflow.dag.jobs if not workflow.dag.needrun(job)]:
        if any(Path(f).exists() and workflow.persistence.metadata(f) is None for f in made.output):
            workflow.async_run(workflow.persistence.finished(made))


def extraction(stage):
    """The params of an extraction."""
    return {
        **job(stage, model_env, code=lambda w: PLAN.encoder_code(stage, w.model)),
        "spec": lambda wildcards: dump(PLAN.model(wildcards.model).extraction_spec()),
        "fingerprint": lambda wildcards: PLAN.fingerprint(wildcards.model),
        "batch": lambda wildcards, input: PLAN.model(wildcards.model).batch_size,
        # How, not what: as functions of `input` these are not tracked.
        "settings": lambda wildcards, input: dump(STUDY.extract),
        "resized": lambda wildcards, input: paths.RESIZED,
    }


def remember_signatures():
    """Work out the signatures of the rules' functions once; else Snakemake does, several times a job."""
    for each in workflow.rules:
        for function in filter(inspect.isfunction, (*each.input, *each.params, each.conda_env)):
            function.__signature__ = inspect.signature(function)


def for_rise(file):
    """A file of the SVM cell that RISE explains: the protocol is the study's choice."""
    return file.replace("{protocol}", STUDY.rise.protocol)


def analysis_python():
    """An interpreter that can build tables outside a job, or None while there is none."""
    if USES_CONDA:
        pins_file = for_conda("analysis")
        prefixes = [e.address for e in workflow.dag.conda_envs.values() if str(e.file) == pins_file]
        candidates = [Path(prefix) / "bin" / "python" for prefix in prefixes]
    else:
        candidates = [Path(PLAN.python("analysis"))]
    return next((str(c) for c in candidates if c.is_file()), None)


def take_folder():
    """Of two runs that started at once and both found Snakemake's lock free, one goes on."""
    if workflow.is_main_process and not hold_folder():
        print(
            "error: another Snakemake runs in this folder; wait until it has ended",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # at once: an orderly end would remove the locks of the other


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
