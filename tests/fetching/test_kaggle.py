"""Archives of Kaggle through its official client, against a server on this machine."""

import base64
import hashlib
import io
import json
import zipfile

import pytest
from kagglesdk import kaggle_env

from discern.errors import DiscernError
from discern.fetching import transfer
from discern.fetching.kaggle import fetch_kaggle, has_credentials
from discern.sources import KaggleSource
from tests.fetching.hub_server import Handler, Server, sha256

SECRET = "KGAT_secret"


def zipped():
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("COVID/Covid (1).png", bytes(range(256)) * 50)
        return file.getvalue()


class KaggleHandler(Handler):
    """Kaggle's call for a download, answered by a signed address of the store behind it."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, secret = self.server, self.headers.get("Authorization") or ""
        server.calls.append((self.path, body, secret))
        if server.refuse or self.path != "/v1/datasets.DatasetApiService/DownloadDataset":
            self.answer(server.refuse or 404, {"Content-Type": "text/html"}, b"no")
            return
        name = f"{body['ownerSlug']}/{body['datasetSlug']}"
        version = body.get("datasetVersionNumber") or server.latest
        self.answer(302, {"Location": f"{server.store}/{name}//{version}.zip?X-Goog-Signature=signed"})

    def answer(self, status, headers, body=b"", cut=None):
        """With the store's own digest of the whole file."""
        if self.path.startswith("/store/") and self.server.md5:
            headers = headers | {"x-goog-hash": f"crc32c=AAAAAA==,md5={self.server.md5}"}
        super().answer(status, headers, body, cut)


class KaggleServer(Server):
    """What Kaggle has, and what it was asked."""

    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = KaggleHandler
        self.calls, self.refuse, self.latest, self.md5 = [], 0, 2, None

    def __enter__(self):
        super().__enter__()
        return self


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """A Kaggle with two versions of one data set, and an account that nobody has set."""
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    with KaggleServer() as server:
        server.hub.add("owner/ct", {"1.zip": b"PK older", "2.zip": zipped()})
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.hub.url)
        yield server


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)


def source(**changes):
    return KaggleSource(**{"kind": "kaggle", "dataset": "owner/ct", "version": 2} | changes)


def refused(entry, tmp_path):
    with pytest.raises(DiscernError) as caught:
        fetch_kaggle(entry, tmp_path / "got")
    text = str(caught.value)
    assert SECRET not in text
    assert "signed" not in text
    assert not (tmp_path / "got" / "ct.zip").exists()
    return text


def test_the_archive_of_a_version_comes_once(kaggle, token, tmp_path, capfd):
    content = kaggle.hub.repos["owner/ct"].files["2.zip"]
    for _ in range(2):
        path = fetch_kaggle(source(sha256=sha256(content)), tmp_path / "got")
        assert path == tmp_path / "got" / "ct.zip"
        assert path.read_bytes() == content
    assert [(path.rsplit("/", 1)[1], secret) for path, _, secret in kaggle.calls] == [
        ("DownloadDataset", f"Bearer {SECRET}")
    ]
    assert kaggle.calls[0][1] == {"ownerSlug": "owner", "datasetSlug": "ct", "datasetVersionNumber": 2}
    assert {asked.token for asked in kaggle.hub.asked} == {None}  # the store is another host
    shown = "".join(capfd.readouterr())
    assert "ct.zip: 100%" in shown
    assert SECRET not in shown
    assert "signed" not in shown
    assert not any(SECRET in p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file())


def test_without_a_version_the_latest_comes(kaggle, token, tmp_path):
    assert fetch_kaggle(source(version=None), tmp_path / "got").read_bytes()[:2] == b"PK"
    assert "datasetVersionNumber" not in kaggle.calls[0][1]


def test_every_way_to_keep_credentials(kaggle, tmp_path, monkeypatch):
    assert not has_credentials()
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir()
    (folder / "access_token").write_text(SECRET)
    assert has_credentials()
    fetch_kaggle(source(), tmp_path / "a")
    (folder / "access_token").unlink()
    basic = "Basic " + base64.b64encode(b"me:key").decode()
    (folder / "kaggle.json").write_text(json.dumps({"username": "me", "key": "key"}))
    monkeypatch.setattr("kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(folder))
    assert has_credentials()
    fetch_kaggle(source(), tmp_path / "b")
    (folder / "kaggle.json").unlink()
    assert not has_credentials()
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "key")
    assert has_credentials()
    fetch_kaggle(source(), tmp_path / "c")
    assert [secret for _, _, secret in kaggle.calls] == [f"Bearer {SECRET}", basic, basic]


def test_without_credentials_nothing_is_asked(kaggle, tmp_path):
    text = refused(source(), tmp_path)
    for part in ("https://www.kaggle.com/datasets/owner/ct", "settings/api", "KAGGLE_API_TOKEN",
                 "~/.kaggle/access_token", str(tmp_path / "got" / "ct.zip")):  # fmt: skip
        assert part in text
    assert kaggle.calls == []
    (tmp_path / "got" / "ct.zip").write_bytes(b"mine")  # by hand
    assert fetch_kaggle(source(), tmp_path / "got").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the token was not accepted"),
        (403, "its terms were not accepted with this account"),
        (404, "no such data set version 2"),
        (503, "status 503"),
    ],
)
def test_refusals_say_what_to_do(kaggle, token, tmp_path, status, words):
    kaggle.refuse = status
    text = refused(source(), tmp_path)
    assert words in text
    assert "kaggle.com" in text


def test_a_store_that_refuses(kaggle, token, tmp_path):
    kaggle.hub.broken = 403
    assert "accept them at https://www.kaggle.com/datasets/owner/ct" in refused(source(), tmp_path)


def test_damaged_credentials_are_named(kaggle, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text("{")
    assert "credentials cannot be read" in refused(source(), tmp_path)


def test_no_network_says_what_to_do(kaggle, token, tmp_path, monkeypatch):
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    assert "check the network" in refused(source(), tmp_path)


def test_a_broken_transfer_goes_on(kaggle, token, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TRIES", 1)
    kaggle.hub.cuts["2.zip"] = [None, 500]  # the client's own request is answered in full
    refused(source(), tmp_path)
    assert (
        fetch_kaggle(source(), tmp_path / "got").read_bytes() == kaggle.hub.repos["owner/ct"].files["2.zip"]
    )
    assert kaggle.hub.ranges()[-1] == "bytes=500-"


def test_wrong_bytes_are_kept_aside(kaggle, token, tmp_path):
    assert "the card says 0000" in refused(source(sha256="0" * 64), tmp_path)
    assert (tmp_path / "got" / "ct.zip.rejected").is_file()
    kaggle.md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert "Kaggle's store says" in refused(source(), tmp_path)
