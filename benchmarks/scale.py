"""One data set of millions of images: jobs, planning, store and time: ``python -m benchmarks.scale``.

Everything is generated: cards under new names, a manifest with as many rows, shards of random features.
No image is read and no feature extracted. ``--rates`` are images per second of one GPU, the reader's own
(``python -m benchmarks.throughput MODEL --batch auto`` measures them).
"""

import argparse
import itertools
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.side_by_side import Table, machine
from benchmarks.workflow import ROOT, Spent, snakemake, spent
from discern.contracts import FEATURES, MANIFEST, encoded_metadata, feature_table, write_table
from discern.features.merging import part_name
from discern.registry import Registry

DATASET = "generated"
#: Left out of the encoders that are counted: controls, and what is no model of medical pictures or of words.
CONTROLS = {"pixels32", "random_lite0", "opennsfw_resnet50"}
ROWS = 2**20  # of a row group, as manifests are written
READ = """
import sys; sys.path.insert(0, {root!r})
from discern.contracts import MANIFEST, read_rows
print(read_rows(MANIFEST, {file!r}, {first}, {last}).num_rows)
"""


def encoders(number: int) -> list[str]:
    """Names of the registry's encoders of pictures, controls left out."""
    shelf = Registry([str(ROOT / "registry")]).models
    return [c.name for c in shelf.all() if not (c.volume or c.name in CONTROLS)][:number]


def project(folder: Path, images: int, models: list[str]) -> None:
    """A study of the encoders on one data set whose card promises so many images."""
    (folder / "registry" / "datasets").mkdir(parents=True)
    card = yaml.safe_load((ROOT / "registry" / "datasets" / "brain_mr.yaml").read_text())
    drop = {"readings", "official_splits", "paper_n", "paper_classes"}
    card = {k: v for k, v in card.items() if k not in drop} | {"name": DATASET, "expected_n": images}
    (folder / "registry" / "datasets" / f"{DATASET}.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    (folder / "registry" / "models").symlink_to(ROOT / "registry" / "models")
    (folder / "registry" / "reference").symlink_to(ROOT / "registry" / "reference")
    (folder / "envs").symlink_to(ROOT / "envs")
    study = {"study": "scale", "models": models, "datasets": [DATASET], "allow_remote_code": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(study))


def jobs(text: str) -> dict[str, int]:
    """Rules and their numbers of jobs, as a dry run counts them."""
    lines = [line.split() for line in text.splitlines()]
    return {w[0]: int(w[1]) for w in lines if len(w) == 2 and w[1].isdigit()}


def planning(images: int, models: list[str]) -> tuple[Table, dict[str, int]]:
    """Dry runs of the features alone and of everything."""
    rows: list[tuple[object, ...]] = []
    features: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        project(Path(name), images, models)
        for target in ("features", "all"):
            done: Spent = snakemake(Path(name), "-s", str(ROOT / "Snakefile"), "--dry-run", target)
            found = jobs(done.text)
            counts = [found.get(rule, 0) for rule in ("extract_shard", "merge_features", "total")]
            rows.append((target, *(f"{n:,}" for n in counts), f"{done.seconds:.1f}", f"{done.mib:.0f}"))
            features = features or found
    heads = ("target", "extract_shard", "merge_features", "all jobs", "CPU s", "memory, MiB")
    about = f"Dry run: {images:,} images, {len(models)} encoders, nothing made yet, start included."
    return Table("Planning", about, heads, rows), features


def manifest(file: Path, images: int) -> None:
    """A manifest of so many made-up images, written group by group as long as one of the pipeline's."""
    rng = np.random.default_rng(0)
    about = {"dataset": DATASET, "root": ".", "made": "", "decoding": {}}
    schema = MANIFEST.schema().with_metadata(encoded_metadata(MANIFEST, about))
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, images, ROWS):
            n = min(ROWS, images - start)
            ids = [f"patient{i // 10:07d}_{i:08d}" for i in range(start, start + n)]
            labels = rng.integers(0, 2, n)
            columns = {c: pa.nulls(n, t) for c, t in zip(schema.names, schema.types, strict=True)} | {
                "image_id": pa.array(ids),
                "path": pa.array([f"images/{i}.png" for i in ids]),
                "sha256": pa.array([rng.bytes(32).hex() for _ in range(n)]),
                "label": pa.array(labels, pa.int32()),
                "label_name": pa.array(np.array(["healthy", "tumour"])[labels]),
                "group": pa.array([i[:14] for i in ids]),
                "width": pa.array(np.full(n, 512), pa.int32()),
                "height": pa.array(np.full(n, 512), pa.int32()),
                "mode": pa.array(["L"] * n),
            }
            writer.write_table(pa.table(columns, schema=schema))


def reading(folder: Path, images: int, shard: int) -> Table:
    """What a job of a shard reads of the manifest, in the middle of it."""
    file, first = folder / "manifest.parquet", images // 2
    manifest(file, images)
    code = READ.format(root=str(ROOT / "src"), file=str(file), first=first, last=first + shard)
    empty = spent(
        [sys.executable, "-c", READ.format(root=str(ROOT / "src"), file=str(file), first=0, last=0)]
    )
    done = spent([sys.executable, "-c", code])
    row = (f"{images:,}", f"{file.stat().st_size / 2**20:.0f}", f"{shard:,}",
           f"{done.seconds - empty.seconds:.1f}", f"{done.mib - empty.mib:.0f}")  # fmt: skip
    heads = ("rows", "manifest, MiB", "rows of the shard", "CPU s", "memory, MiB")
    return Table("Manifest", "What a shard reads of it, beside the start of the process.", heads, [row])


def shards(folder: Path, number: int, rows: int, d: int) -> list[str]:
    """Shards of random features with a manifest to them; their rows."""
    rng = np.random.default_rng(0)
    total = number * rows
    manifest(folder / "manifest.parquet", total)
    names = [f"{a}-{b}" for a, b in itertools.pairwise([*range(0, total, rows), "end"])]
    ids = pq.read_table(folder / "manifest.parquet", columns=["image_id"])["image_id"]
    for i, name in enumerate(names):
        table = feature_table(
            ids[i * rows : (i + 1) * rows].to_pylist(), rng.standard_normal((rows, d), np.float32)
        )
        about = {"model": "m", "d": d, "dataset": part_name(DATASET, name), "images_per_second": 1.0,
                 "device": "cpu", "batch_size": 8}  # fmt: skip
        write_table(FEATURES, folder / f"{name}.parquet", table, about)
    return names


def merging(numbers: list[int], rows: int = 51_200, d: int = 512) -> tuple[Table, float]:
    """Merging shards, as a job does; and bytes on disk by those of the numbers."""
    found: list[tuple[object, ...]] = []
    script = ROOT / "workflow" / "scripts" / "merge_features.py"
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            names = shards(folder, number, rows, d)
            out = folder / "merged.parquet"
            started = time.perf_counter()
            done = spent([sys.executable, script, "--shards", folder, "--rows", *names,
                          "--manifest", folder / "manifest.parquet", "--out", out])  # fmt: skip
            seconds = time.perf_counter() - started
            size = number * rows * d * 4
            ratio = out.stat().st_size / size
            found.append((number, f"{size / 2**20:.0f}", f"{ratio:.3f}", f"{done.mib:.0f}",
                          f"{done.seconds:.1f}", f"{size / 2**20 / seconds:.0f}"))  # fmt: skip
    heads = ("shards", "features, MiB", "on disk by that", "memory, MiB", "CPU s", "MiB/s")
    about = f"Shards of {rows:,} x {d} random numbers, which compress least, merged by the job's script."
    return Table("Merging", about, heads, found), ratio


def store(images: int, models: list[str], ratio: float) -> Table:
    """Sizes of the feature files, from the model cards and what a generated file took."""
    shelf = Registry([str(ROOT / "registry")]).models
    widths = {m: shelf[m].feature.d for m in models}
    total, widest = sum(widths.values()), max(widths, key=widths.__getitem__)
    rows = [
        (what, d, f"{4 * d * images / 1e9:,.0f}", f"{4 * d * images * ratio / 1e9:,.0f}")
        for what, d in (("all encoders", total), (f"the widest, {widest}", widths[widest]))
    ]
    heads = ("files of", "d", "float32, GB", "on disk, GB")
    return Table("Store", f"Features of {images:,} images by {len(models)} encoders.", heads, rows)


def times(images: int, found: dict[str, int], gpus: int, rates: list[float], start: float) -> Table:
    """Hours of the extraction: images by all encoders over all GPUs, and the start of each job."""
    merges = found["merge_features"]
    shard_jobs = found["extract_shard"]
    rounds = math.ceil(shard_jobs / gpus)
    per_job = images * merges / shard_jobs
    rows = [
        (f"{rate:g}", f"{images * merges / rate / gpus / 3600:.1f}",
         f"{rounds * (per_job / rate + start) / 3600:.1f}", f"{rounds * start / 60:.0f}")
        for rate in rates
    ]  # fmt: skip
    heads = (
        "images/s of a GPU",
        "hours without any loss",
        "hours in whole rounds of jobs",
        "of it starts, minutes",
    )
    about = (
        f"{shard_jobs:,} jobs on {gpus} GPUs, {rounds} rounds; {start:g} s for each start. The rates are no "
        "measurements: put in the harmonic mean of your own encoders on your own GPU."
    )
    return Table("Time", about, heads, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--models", type=int, default=33)
    parser.add_argument("--gpus", type=int, default=100)
    parser.add_argument("--rates", type=float, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--start", type=float, default=60, help="seconds a job takes before its first image")
    options = parser.parse_args()
    models = encoders(options.models)
    print(machine())
    plan, found = planning(options.images, models)
    print(plan, flush=True)
    merged, ratio = merging([2, 8])
    print(merged, store(options.images, models, ratio), sep="\n\n", flush=True)
    print(times(options.images, found, options.gpus, options.rates, options.start), flush=True)
    with tempfile.TemporaryDirectory() as name:
        print(reading(Path(name), options.images, 102_400))


if __name__ == "__main__":
    main()
