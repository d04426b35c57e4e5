"""Fetching that goes wrong: broken connections, refusals, a full disk, a killed job. Real faults."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.fetching.hub_server import Handler, Server, sha256
from tests.fetching.packed import zip_of

from discern.data.originals.fetch import fetch_dataset
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError
from discern.fetching import transfer

BIG = os.urandom(3_000_000)
PICTURES = {"Set/a/1.png": BIG, "Set/b/1.png": b"two"}
JOB = """
import sys
from pathlib import Path
from discern.data.originals.fetch import fetch_dataset
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError
card, downloads = DatasetCard.model_validate_json(sys.argv[1]), Path("resources/downloads")
try:
    fetch_dataset(card, Path(sys.argv[2]), downloads, Path(sys.argv[3]))
except DiscernError as error:
    sys.exit(f"error: {error}")
"""
RECORD = "resources/datasets/toy/fetched.json"


class Held(Handler):
    """A store that can stop in the middle of a file until somebody lets it go on."""

    def answer(self, status, headers, body=b"", cut=None):
        """With a pause after the first half, if one was planted."""
        server = self.server
        if server.gate is None or len(body) < 1000:
            super().answer(status, headers, body, cut)
            return
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        server.reached.set()
        server.gate.wait(60)


class Store(Server):
    """Serves the toy archive."""

    def __init__(self, content):
        super().__init__()
        self.RequestHandlerClass = Held
        self.gate, self.reached = None, threading.Event()
        self.hub.add("me/toy", {"Set.zip": content})
        self.archive = f"{self.store}/me/toy//Set.zip"

    def __enter__(self):
        super().__enter__()
        return self


@pytest.fixture
def content(tmp_path):
    return zip_of(tmp_path / "published.zip", PICTURES).read_bytes()


@pytest.fixture
def store(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    with Store(content) as running:
        yield running


def card(store, **changes):
    facts = {
        "name": "toy", "title": "Toy", "modality": "X-ray", "licence": "none",
        "terms": "https://terms.example/toy", "classes": [{"name": "a"}, {"name": "b"}],
        "source": {"kind": "url", "url": store.archive}, "adapter": {"kind": "image_folder"},
    }  # fmt: skip
    return DatasetCard.model_validate(facts | changes)


def fetch(entry, tmp_path, place="resources/datasets/toy"):
    """The pictures, or the error."""
    try:
        fetch_dataset(entry, tmp_path / place, tmp_path / "resources" / "downloads", tmp_path / RECORD)
    except DiscernError as error:
        assert not (tmp_path / RECORD).exists()
        return str(error)
    root = tmp_path / json.loads((tmp_path / RECORD).read_text())["root"]
    return {f"Set/{p.relative_to(root)}": p.read_bytes() for p in root.rglob("*.png")}


def start(entry, place="resources/datasets/toy", **options):
    arguments = [sys.executable, "-c", JOB, entry.model_dump_json(), place, RECORD]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, **options)


def made(tmp_path):
    """Names of all that is not hidden, a part or a lock."""
    found = {p.relative_to(tmp_path / "resources").as_posix() for p in (tmp_path / "resources").rglob("*.*")}
    return {name for name in found if not os.path.basename(name).startswith(".") and ".part" not in name}


# --------------------------------------------------------------------------- connections


def test_an_interrupted_transfer_goes_on_byte_exact(store, tmp_path, content):
    store.hub.cuts["Set.zip"] = [1_000_000, 500_000]
    assert fetch(card(store), tmp_path) == PICTURES
    assert store.hub.ranges() == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_wrong_checksum_is_kept_aside_and_never_used(store, tmp_path, content):
    source = {"kind": "url", "url": store.archive, "sha256": sha256(content)}
    store.hub.lies["Set.zip"] = content[:-1] + b"?"
    text = fetch(card(store, source=source), tmp_path)
    assert f"the card says {sha256(content)}" in text
    assert "by hand: get it from" in text
    aside = tmp_path / "resources" / "downloads" / "datasets" / "toy" / "Set.zip.rejected"
    assert aside.read_bytes() == store.hub.lies.pop("Set.zip")
    assert not (tmp_path / "resources/datasets/toy/.files/fetched").exists()
    assert fetch(card(store, source=source), tmp_path) == PICTURES


@pytest.mark.parametrize(
    ("status", "words"), [(403, "access is refused (status 403)"), (404, "no such file")]
)
def test_a_refusal_names_the_page_the_terms_and_the_way_by_hand(store, tmp_path, status, words):
    store.hub.broken = status
    text = fetch(card(store), tmp_path)
    for part in (words, store.archive, "https://terms.example/toy", "resources/datasets/toy/", "by hand"):
        assert part in text


# --------------------------------------------------------------------------- a full disk


def test_no_room_for_the_download(store, tmp_path):
    """The largest file that the system allows is smaller than the archive."""
    limited = start(card(store), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)))
    said = limited.communicate()[1]
    assert limited.returncode == 1, said
    assert "no room left: Set.zip needs 3 MB" in said
    assert "free space" in said
    assert made(tmp_path) == set()
    assert fetch(card(store), tmp_path) == PICTURES
    assert store.hub.ranges()[-1] == "bytes=1000000-"  # what fitted is not lost


def test_no_room_to_unpack(store, tmp_path, content):
    archive = zip_of(tmp_path / "Set.zip", {"Set/a/1.png": bytes(3_000_000), "Set/b/1.png": b"two"})
    entry, limit = card(store), (10**6, 10**6)
    job = start(entry, "Set.zip", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    said = job.communicate()[1]
    assert job.returncode == 1, said
    assert "no room left: Set.zip unpacked needs 3 MB" in said
    assert made(tmp_path) == set()
    assert fetch(entry, tmp_path, "Set.zip")["Set/b/1.png"] == b"two"
    assert archive.exists()


MOUNT = """
mkdir resources && mount -t tmpfs -o size=1m tmpfs resources && "$@"
code=$?; find resources; exit $code
"""


def can_mount():
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return (
        shutil.which("unshare") and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not can_mount(),
    reason="fills a disk of 1 MB, and only root may mount one; the test below needs no rights",
)
def test_a_disk_that_is_really_full(store, tmp_path):
    command = [sys.executable, "-c", JOB, card(store).model_dump_json(), "resources/datasets/toy", RECORD]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", MOUNT, "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no room left: Set.zip needs 3 MB" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [line for line in done.stdout.splitlines() if line.endswith(("Set.zip", "fetched", ".json"))]


def test_what_does_not_fit_is_said_before_it_is_unpacked(store, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    zip_of(tmp_path / "Set.zip", PICTURES)
    text = fetch(card(store), tmp_path, "Set.zip")
    assert "Set.zip unpacked needs 3 MB, 2 MB are free" in text
    assert made(tmp_path) == set()


# --------------------------------------------------------------------------- a killed job


def test_a_job_that_is_killed_in_its_download(store, tmp_path, content):
    store.gate = threading.Event()
    job = start(card(store))
    assert store.reached.wait(60)
    part = tmp_path / "resources" / "downloads" / "datasets" / "toy" / "Set.zip.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    store.gate.set()
    store.gate = None
    assert made(tmp_path) == set()
    begun = part.stat().st_size
    assert fetch(card(store), tmp_path) == PICTURES
    assert store.hub.ranges()[-1] == f"bytes={begun}-"


def test_a_job_that_is_killed_while_it_unpacks(store, tmp_path):
    files = {f"Set/{'ab'[i % 2]}/{i}.png": b"%d" % i for i in range(2000)}
    zip_of(tmp_path / "Set.zip", files)
    job = start(card(store), "Set.zip")
    partial = tmp_path / "resources/datasets/toy/.files/unpacked/.Set.zip.partial/Set/b"
    while job.poll() is None and not partial.is_dir():
        time.sleep(0.001)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert not (tmp_path / RECORD).exists()
    assert not partial.parents[1].with_name("Set.zip").exists()
    assert fetch(card(store), tmp_path, "Set.zip") == files
    assert sorted(p.name for p in partial.parents[2].iterdir()) == ["Set.zip", "Set.zip.json"]
