"""Downloads: only whole, verified files get their final name. Real pip, real HTTP on this machine.

The Hugging Face Hub has its own server and tests, in ``hub_server.py`` and ``test_hub.py``.
"""

import hashlib
import http.server
import re
import threading
import zipfile

import pytest

from discern.errors import DiscernError
from discern.fetching import transfer
from discern.fetching.archives import extract_members
from discern.fetching.download import fetch_package, fetch_url
from discern.fetching.transfer import locked
from discern.sources import PackageFile, UrlFile

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Knows ranges, and connections that break in the middle."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        start = int(re.findall(r"\d+", self.headers.get("Range") or "0")[0])
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if "/cut" in self.path else body)

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.ranges = []
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def url_file(address, **digests):
    return UrlFile(kind="url", url=address, **digests)


# --------------------------------------------------------------------------- direct addresses


def test_url_is_downloaded_once(server, tmp_path):
    source = url_file(server.url + "/file", sha256=SHA256)
    for _ in range(2):
        assert fetch_url(source, tmp_path / "a" / "file").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_wrong_digest_uses_nothing_and_keeps_the_bytes(server, tmp_path):
    with pytest.raises(DiscernError, match=r"md5 is .* the card says 0000") as refused:
        fetch_url(url_file(server.url + "/file", md5="0" * 32), tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["file.rejected"]
    assert (tmp_path / "file.rejected").read_bytes() == CONTENT
    assert str(tmp_path / "file.rejected") in str(refused.value)


def test_a_person_s_file_is_neither_replaced_nor_used_unless_it_is_right(server, tmp_path):
    source = url_file(server.url + "/file", sha256=SHA256)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(DiscernError, match=r"the card says .* left alone"):
        fetch_url(source, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"
    (tmp_path / "file").write_bytes(CONTENT)
    assert fetch_url(source, tmp_path / "file") == tmp_path / "file"
    assert server.ranges == []


def test_a_download_of_an_older_card_gives_way_and_is_kept(server, tmp_path):
    fetch_url(url_file((tmp_path / "old").as_uri()), write(tmp_path / "old", b"old").with_name("file"))
    fetch_url(url_file(server.url + "/file", sha256=SHA256), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert (tmp_path / "file.rejected").read_bytes() == b"old"


def write(path, content):
    path.write_bytes(content)
    return path


def test_partial_file_is_resumed(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    path = fetch_url(url_file(server.url + "/file", sha256=SHA256), tmp_path / "file")
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert not (tmp_path / "file.part").exists()


def test_whole_partial_file_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch_url(url_file(server.url + "/file"), tmp_path / "file").read_bytes() == CONTENT


def test_too_long_partial_file_is_never_used(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DiscernError, match="download failed"):
        fetch_url(url_file(server.url + "/file"), tmp_path / "file")
    assert fetch_url(url_file(server.url + "/file"), tmp_path / "file").read_bytes() == CONTENT


def test_broken_connection_never_gives_a_file(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0)
    with pytest.raises(DiscernError, match="run again"):
        fetch_url(url_file(server.url + "/cut"), tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert len(server.ranges) == transfer.TRIES
    path = fetch_url(url_file(server.url + "/file", sha256=SHA256), tmp_path / "file")
    assert path.read_bytes() == CONTENT
    assert server.ranges[1] == f"bytes={len(CONTENT) // 2}-"


def test_a_full_disk_is_said_before_the_download(server, tmp_path):
    with pytest.raises(DiscernError, match=r"file needs 1000000000\.0 GB"):
        fetch_url(url_file(server.url + "/file", bytes=10**18), tmp_path / "file")
    assert server.ranges == []


def test_lock_keeps_a_second_job_waiting(tmp_path):
    entered = threading.Event()

    def second():
        with locked(tmp_path / "file"):
            entered.set()

    job = threading.Thread(target=second)
    with locked(tmp_path / "file"):
        job.start()
        assert not entered.wait(0.2)
    assert entered.wait(30)
    job.join()


# --------------------------------------------------------------------------- packages


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A tiny wheel in a local folder that pip is told to look in, and in no other place."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_data-1.0-py3-none-any.whl"
    info = "tiny_data-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_data/scan.txt", "scan")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return PackageFile(
        kind="package",
        package="tiny-data",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        members=["tiny_data/scan.txt"],
    )


def test_package_is_cached_and_a_damaged_copy_replaced(package, tmp_path, monkeypatch):
    archive = fetch_package(package, tmp_path / "downloads")
    assert extract_members(archive, package.members, tmp_path)[0].read_text() == "scan"
    archive.write_bytes(b"damaged")
    for _ in range(2):
        assert fetch_package(package, tmp_path / "downloads") == archive
    assert archive.with_name(archive.name + ".rejected").read_bytes() == b"damaged"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))  # from now on only the cache
    assert fetch_package(package, tmp_path / "downloads") == archive


def test_package_of_another_digest_is_refused(package, tmp_path):
    other = package.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DiscernError, match=r"tiny-data==1\.0: pip could not download"):
        fetch_package(other, tmp_path / "downloads")
    assert not [p for p in (tmp_path / "downloads").rglob("*") if p.suffix == ".whl"]
