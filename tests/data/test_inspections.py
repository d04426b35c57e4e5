"""No file is decoded twice: what is known survives kills, and never hides a change."""

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.contracts import MANIFEST, read_json, read_table, write_json
from discern.data.adapters.rows import Row
from discern.data.pictures.images import Pictures
from discern.data.preparation import inspecting, inspections
from discern.data.preparation.inspecting import inspect_all
from discern.data.preparation.manifest import prepare_dataset
from discern.data.preparation.workers import Crew, processes
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError

CARD = {
    "name": "x",
    "title": "X",
    "modality": "CT",
    "licence": "CC0",
    "source": {"kind": "manual", "page": "p", "place": "q"},
    "adapter": {"kind": "image_folder"},
    "classes": [{"name": "a"}, {"name": "b"}],
}


@pytest.fixture
def data(tmp_path):
    """Twelve pictures of two classes; two of them equal, one a brighter copy."""
    rng = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "root" / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 200, (40, 50, 3), np.uint8)).save(path)
    (tmp_path / "root/b/11.png").write_bytes((tmp_path / "root/a/00.png").read_bytes())
    Image.open(tmp_path / "root/a/00.png").point(lambda v: v + 3).save(tmp_path / "root/a/10.png")
    write_json(tmp_path / "fetched.json", {"root": str(tmp_path / "root")})
    return tmp_path


def prepare(data, threads=1, inspected="inspected", **changes):
    """Bytes of the manifest and of the audit."""
    places = [data / name for name in ("fetched.json", "m.parquet", "a.json", "made", inspected)]
    prepare_dataset(DatasetCard.model_validate(CARD | changes), *places, threads)
    return (data / "m.parquet").read_bytes(), (data / "a.json").read_bytes()


def parts(data):
    return sorted((data / "inspected").glob("*.parquet"))


@pytest.fixture
def known(caplog):
    """A function that says how many images the last preparation did not decode."""
    caplog.set_level("INFO")

    def count():
        lines = [r.getMessage() for r in caplog.records if "last inspected" in r.getMessage()]
        caplog.clear()
        return int(lines[-1].split()[0]) if lines else 0

    return count


@pytest.fixture
def always_processes(monkeypatch):
    monkeypatch.setattr(inspecting, "TRIAL", 0.0)
    monkeypatch.setattr(inspecting, "WORTH", 0.0)


def test_results_do_not_depend_on_the_number_of_processes(data, always_processes):
    one, two, three = (prepare(data, n, f"inspected{n}") for n in (1, 2, 3))
    assert one == two == three
    audit = read_json(data / "a.json")
    assert [c["image_ids"] for c in audit["near_duplicates"]] == [["a/00", "a/10", "b/11"]]
    assert prepare(data, 2, "inspected1") == one  # from what is known


def test_damage_is_named_by_every_process(data, always_processes):
    for name in ("a/02", "b/05"):
        (data / f"root/{name}.png").write_bytes((data / f"root/{name}.png").read_bytes()[:200])
    with pytest.raises(DiscernError, match=r"2 images cannot be used:\n  a/02: .*\n  b/05: "):
        prepare(data, 2)


def test_what_is_known_is_not_decoded_again(data, known):
    first = prepare(data)
    assert (known(), len(parts(data))) == (0, 1)
    assert prepare(data) == first
    assert (known(), len(parts(data))) == (12, 1)


def test_a_change_of_the_file_is_seen(data, known):
    prepare(data)
    path = data / "root/a/02.png"
    before = path.stat()
    Image.new("RGB", (60, 30), (9, 9, 9)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # another size, the same time
    known()
    prepare(data)
    assert known() == 11
    rows = read_table(MANIFEST, data / "m.parquet")[0].to_pylist()
    assert [(r["width"], r["height"]) for r in rows if r["image_id"] == "a/02"] == [(60, 30)]
    assert len(parts(data)) == 1
    os.utime(data / "root/a/04.png", ns=(0, 0))  # the same size, another time
    prepare(data)
    assert known() == 11
    prepare(data)
    assert known() == 12
    path.write_bytes(b"")
    with pytest.raises(DiscernError, match="1 images cannot be used"):
        prepare(data)
    assert known() == 11


def test_readings_share_the_folder(data, known):
    prepare(data)
    assert known() == 0
    prepare(data, decoding={"transparency": "white"})  # another rule: other pixels
    assert known() == 0
    assert len(parts(data)) == 1
    prepare(data)
    assert known() == 12  # the first rule's entries were kept
    prepare(data, decoding={"transparency": "white"}, drop=["a/02"])
    assert known() == 11


def test_other_code_does_not_trust_it(data, known, monkeypatch):
    prepare(data)
    monkeypatch.setattr(inspections, "version", lambda: "another")
    prepare(data)
    assert known() == 0
    prepare(data)
    assert (known(), len(parts(data))) == (12, 1)


def test_damaged_and_half_written_tables_are_ignored(data, known, caplog):
    first = prepare(data)
    (part,) = parts(data)
    (data / "inspected/00000.parquet").write_bytes(part.read_bytes()[:500])
    (data / "inspected/00001.parquet").write_text("no table")
    known()
    assert prepare(data) == first
    assert caplog.text.count("damaged, ignored") == 4  # two tables, when read and when brought together
    assert (known(), len(parts(data))) == (12, 1)
    part = parts(data)[-1]
    part.write_bytes(part.read_bytes()[:-200])
    assert prepare(data) == first


def test_a_made_picture_that_is_gone_is_made_again(data, known):
    for i in range(12):
        Image.new("L", (50, 40), 255 * (i % 2)).save(data / f"root/mask{i}.png")
    lines = ["path,label,mask_path"] + [
        f"{'ab'[i % 2]}/{i:02d}.png,{'ab'[i % 2]},mask{i}.png" for i in range(12)
    ]
    (data / "root/labels.csv").write_text("\n".join(lines) + "\n")
    prepare(data, adapter={"kind": "csv"})
    pictures = Pictures(data / "root", data / "made")
    row = Row("a/00", "a/00.png", "a", mask_paths=("mask0.png", "mask1.png"))
    crew = Crew(pictures, 1)
    (image,), damaged = inspect_all(pictures, [row], data / "inspected", crew)
    assert not damaged
    assert image.seen.mask_path.startswith("made:")
    known()
    assert inspect_all(pictures, [row], data / "inspected", crew)[0] == [image]
    assert known() == 1
    pictures.file(image.seen.mask_path).unlink()
    assert inspect_all(pictures, [row], data / "inspected", crew)[0][0].seen.mask_path == image.seen.mask_path
    assert (known(), pictures.file(image.seen.mask_path).is_file()) == (0, True)


def test_arrays_of_an_archive_go_by_its_own_size_and_time(data, known):
    rng = np.random.default_rng(1)
    archive = data / "root/s.npz"
    images = rng.integers(0, 256, (6, 30, 30), np.uint8)
    np.savez(archive, images=images, labels=np.arange(6) % 2)
    npz = {"kind": "npz", "file": "s.npz", "splits": [], "images": "images", "targets": "labels"}
    first = prepare(data, 2, adapter=npz)
    assert prepare(data, adapter=npz) == first
    assert known() == 6
    images[0] = 0
    np.savez(archive, images=images, labels=np.arange(6) % 2)
    assert prepare(data, adapter=npz) != first
    assert known() == 0


def children(pid):
    """Living processes whose parent is ``pid``."""
    if not Path("/proc").is_dir():
        pytest.skip("finds the worker processes in /proc, which Linux alone has")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.02)


def test_a_process_that_dies_is_told_with_its_images(data):
    rows = [Row(f"a/{i:02d}", f"a/{i:02d}.png", "a") for i in (0, 2, 4)]
    with processes(Pictures(data / "root", data / "made"), 1) as (worker,):
        assert [seen.width for seen in worker("inspect", rows)] == [50, 50, 50]
        (nursery,) = children(os.getpid())
        (process,) = children(nursery)
        os.kill(process, signal.SIGKILL)
        with pytest.raises(DiscernError, match=r"a/00 \.\. a/04: a process that decoded one of these"):
            worker("inspect", rows)
    assert children(os.getpid()) == []


def large_pictures(folder, n, side=4000):
    """Palette pictures that take long to decode and are made at once: only their palettes differ."""
    folder.mkdir(parents=True)
    y, x = np.indices((side, side), dtype=np.int32)
    picture = Image.fromarray(((x // 7 * (y // 11)) % 251).astype(np.uint8), "L")
    rng = np.random.default_rng(0)
    picture.putpalette(bytes(768))
    picture.save(folder / "base.png", compress_level=1)
    base = (folder / "base.png").read_bytes()
    (folder / "base.png").unlink()
    start = base.index(b"PLTE")
    length = int.from_bytes(base[start - 4 : start])
    for i in range(n):
        chunk = b"PLTE" + rng.integers(0, 256, length, np.uint8).tobytes()
        crc = zlib.crc32(chunk).to_bytes(4)
        (folder / f"{i:03d}.png").write_bytes(base[:start] + chunk + crc + base[start + 8 + length :])


SCRIPT = """
import sys
from pathlib import Path
from discern.data.preparation import inspecting
from discern.data.preparation import inspections
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard
inspections.SECONDS = inspecting.CHUNK = 0.1
places = [Path(sys.argv[1]) / n for n in ("fetched.json", "m.parquet", "a.json", "made", "inspected")]
prepare_dataset(DatasetCard.model_validate_json(sys.argv[2]), *places, 2)
"""


def test_a_killed_preparation_goes_on_where_it_was(tmp_path, known):
    for i, name in enumerate("ab"):
        large_pictures(tmp_path / "root" / name, 25, 3000 + i)
    write_json(tmp_path / "fetched.json", {"root": str(tmp_path / "root")})
    card = DatasetCard.model_validate(CARD).model_dump_json()
    job = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path, card], stderr=subprocess.DEVNULL)
    wait_for(lambda: children(job.pid) and len(parts(tmp_path)) >= 2)
    (nursery,) = children(job.pid)
    workers = children(nursery)
    job.kill()
    job.wait()
    assert len(workers) == 2
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in [nursery, *workers]))
    assert not (tmp_path / "m.parquet").exists()
    second = prepare(tmp_path, 2)
    assert 0 < (n := known()) < 50, n
    assert prepare(tmp_path, 1, "fresh") == second
    assert len(parts(tmp_path)) == 1


def test_two_jobs_use_the_folder_at_once(data):
    card = DatasetCard.model_validate(CARD).model_dump_json()
    jobs = []
    for k in range(3):
        place = data / f"job{k}"
        place.mkdir()
        write_json(place / "fetched.json", {"root": str(data / "root")})
        (data / "inspected").mkdir(exist_ok=True)
        (place / "inspected").symlink_to(data / "inspected")
        jobs.append(subprocess.Popen([sys.executable, "-c", SCRIPT, place, card], stderr=subprocess.DEVNULL))
    assert [job.wait() for job in jobs] == [0, 0, 0]
    tables = [read_table(MANIFEST, data / f"job{k}" / "m.parquet")[0] for k in range(3)]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
