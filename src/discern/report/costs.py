"""What a study cost: Snakemake's benchmark files, summed per rule, model and data set.

Snakemake writes a benchmark file when a job ends well and samples the process while it runs: every half
second at first, every 30 s after fifteen. So CPU seconds miss what followed the last sample, peaks between
samples are not seen, and a job that failed or was killed leaves a log and no measurement. A repeated job
replaces its measurement.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from discern import paths
from discern.config import Study
from discern.contracts import write_text
from discern.environments import environment_digest
from discern.registry import Registry
from discern.report.plain_csv import no_formula

#: Rules without a benchmark file: their logs alone mean nothing.
UNTIMED = {"render_report", "doctor"}
LATER = 2.0  # seconds by which a log outlives its measurement when the job was tried again in vain


@dataclass(frozen=True)
class Job:
    """One measured job. Times in seconds, sizes in MB; None where Snakemake could not sample."""

    rule: str
    dataset: str = ""
    model: str = ""
    protocol: str = ""
    rows: str = ""  # of a shard: first-last, or first-end
    environment: str = ""
    shared: bool = False  # made once for all studies
    finished: bool = True  # false: the last try left no measurement
    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    read_mb: float | None = None
    written_mb: float | None = None
    images: int | None = None  # of an extraction


@dataclass(frozen=True)
class Cost:
    """Jobs that have something in common, and their sums; ``share`` of all seconds, in 0..1."""

    by: str  # total, rule, model or dataset
    name: str
    jobs: int
    shared: int
    unfinished: int
    seconds: float
    share: float
    longest: float
    longest_job: str
    cpu_seconds: float | None
    load: float | None  # CPU seconds per second, over the jobs that have both
    peak_mb: float | None
    read_mb: float | None
    written_mb: float | None
    images: int | None
    images_per_second: float | None


def measured_jobs(study: Study, registry: Registry, root: Path | str = ".") -> list[Job]:
    """The jobs that made the present files of the study, and those that were tried in vain."""
    root = Path(root)
    names = _names(study, registry, root)
    found = []
    for base in (paths.SHARED, paths.STUDY.format(study=study.study)):
        measured, logs = root / base / "benchmarks", root / base / "logs"
        files = {f.relative_to(measured).with_suffix("") for f in measured.rglob("*.tsv")}
        files |= {f.relative_to(logs).with_suffix("") for f in logs.rglob("*.log")}
        for file in sorted(files):
            fields = _fields(file.parts, names)
            if fields is None or fields["rule"] in UNTIMED:
                continue
            tsv, log = ((folder / file.parent / (file.name + end)) for folder, end in
                        ((measured, ".tsv"), (logs, ".log")))  # fmt: skip
            values = _measurement(tsv)
            done = _finished(tsv, log)
            if not values and fields["rule"] == "build_environment" and _built(root, file):
                continue
            images = _images(fields, root) if values else None
            found.append(Job(**fields, **values, shared=base == paths.SHARED, finished=done, images=images))
    return found


def _names(study: Study, registry: Registry, root: Path) -> dict[str, set[str]]:
    """Names that the study's paths may hold, by kind; what it shares is named by its owner."""
    models, datasets = registry.models, registry.datasets
    environments = {"data", "analysis", *(models[m].environment for m in study.models)}
    pins = {e: root / "envs" / f"{e}.yaml" for e in environments}
    return {
        "dataset": {n for d in study.datasets for n in (d, datasets.owner(d), datasets.images(d))},
        "model": {n for m in study.models for n in (m, models.owner(m))},
        "protocol": set(study.split.protocols),
        "environment": {f"{e}.{environment_digest(f)}" for e, f in pins.items() if f.is_file()},
    }


def _fields(parts: Sequence[str], names: dict[str, set[str]]) -> dict[str, Any] | None:
    """Rule and wildcards of a path below ``benchmarks/``; None if it is not this study's."""
    fields: dict[str, Any] = {"rule": parts[0]}
    if parts[0] == "extract_shard":
        *parts, fields["rows"] = parts
    for part in parts[1:]:
        kind = next((k for k, known in names.items() if part in known and k not in fields), None)
        if kind is None:
            return None
        fields[kind] = part.split(".")[0]
    return fields


def _measurement(file: Path) -> dict[str, Any]:
    """Columns of a benchmark file; empty if there is none or it holds no time."""
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            row = next(csv.DictReader(handle, delimiter="\t"), {})
    except OSError:
        return {}
    columns = {"seconds": "s", "cpu_seconds": "cpu_time", "peak_mb": "max_rss", "read_mb": "io_in",
               "written_mb": "io_out"}  # fmt: skip
    values = {field: _number(row.get(column)) for field, column in columns.items()}
    return values if values["seconds"] is not None else {}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None  # Snakemake writes NA or - for jobs too short to be sampled


def _finished(tsv: Path, log: Path) -> bool:
    """False when no measurement follows the log: the last try failed, was killed or still runs."""
    if not tsv.is_file():
        return False
    return not log.is_file() or log.stat().st_mtime <= tsv.stat().st_mtime + LATER


def _built(root: Path, file: Path) -> bool:
    """Whether an environment without a measurement is there all the same."""
    env, _, digest = file.name.partition(".")
    return (root / paths.ENVIRONMENT.format(env=env, digest=digest)).is_file()


def _images(fields: dict[str, Any], root: Path) -> int | None:
    """Rows of the features that an extraction, or a shard of one, made."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rules = {"extract_features", "extract_shard"}
    if fields["rule"] not in rules or not {"dataset", "model"} <= fields.keys():
        return None
    first, _, last = fields.get("rows", "0-end").partition("-")
    file = root / paths.FEATURES.format(dataset=fields["dataset"], model=fields["model"])
    try:
        total = int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        return None
    return max(0, min(total, total if last == "end" else int(last)) - int(first))


def cost_card(jobs: list[Job]) -> list[Cost]:
    """The total, then rules, models and data sets, each by falling time."""
    whole = sum(j.seconds for j in jobs)
    cards = [_cost("total", "all jobs", jobs, whole)] if jobs else []
    keys: list[tuple[str, Callable[[Job], str]]] = [
        ("rule", lambda j: j.rule),
        ("model", lambda j: j.model),
        ("dataset", lambda j: j.dataset),
    ]
    for by, key in keys:
        names = dict.fromkeys(key(j) for j in jobs if key(j))
        rows = [_cost(by, name, [j for j in jobs if key(j) == name], whole) for name in names]
        cards += sorted(rows, key=lambda c: -c.seconds)
    return cards


def _cost(by: str, name: str, jobs: list[Job], whole: float) -> Cost:
    seconds = sum(j.seconds for j in jobs)
    longest = max(jobs, key=lambda j: j.seconds)
    both = [j for j in jobs if j.cpu_seconds is not None]
    cpu = _sum(j.cpu_seconds for j in jobs)
    clock = sum(j.seconds for j in both)
    extractions = [j for j in jobs if j.images is not None and j.seconds]
    images = _sum(j.images for j in extractions)
    peaks = [j.peak_mb for j in jobs if j.peak_mb is not None]
    spent = sum(j.seconds for j in extractions)
    return Cost(
        by=by,
        name=name,
        jobs=sum(j.seconds > 0 for j in jobs),
        shared=sum(j.shared and j.seconds > 0 for j in jobs),
        unfinished=sum(not j.finished for j in jobs),
        seconds=seconds,
        share=seconds / whole if whole else 0.0,
        longest=longest.seconds,
        longest_job=" / ".join(
            p
            for p in (longest.dataset, longest.model, longest.rows, longest.protocol, longest.environment)
            if p
        ),
        cpu_seconds=cpu,
        load=cpu / clock if cpu is not None and clock else None,
        peak_mb=max(peaks, default=None),
        read_mb=_sum(j.read_mb for j in jobs),
        written_mb=_sum(j.written_mb for j in jobs),
        images=None if images is None else int(images),
        images_per_second=images / spent if images is not None and spent else None,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def write_costs(folder: Path | str, jobs: list[Job]) -> None:
    """Write ``costs.csv`` (a row per sum) and ``cost_jobs.csv`` (a row per job)."""
    for name, rows, row in (
        ("costs.csv", cost_card(jobs), Cost),
        ("cost_jobs.csv", jobs, Job),
    ):
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: no_formula(_plain(v)) for k, v in asdict(r).items()} for r in rows)
        write_text(Path(folder) / name, text.getvalue())


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return round(value, 4) if isinstance(value, float) else value
