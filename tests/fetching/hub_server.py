"""A small Hugging Face Hub on this machine, for tests of everything that fetches.

It speaks the hub's own URL scheme: ``/<repo>/resolve/<revision>/<file>`` with commit, ETag and error
codes in the headers, large files redirected to a store on another host, ranges, and the JSON API
with its pages. Faults are planted by file name.
"""

import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field

import torch
from safetensors.torch import save

from discern.fetching import transfer
from discern.model_card import ModelCard

REVISION = "0123456789abcdef0123456789abcdef01234567"
GATED = {"gated": True, "terms": "https://terms.example/net"}
SMALL = (".json", ".txt", ".md")  # kept in git itself; everything else lies in the large-file store


@dataclass
class Repo:
    """One repository at one revision."""

    files: dict[str, bytes]
    revision: str = REVISION
    gated: bool = False


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    host: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """What the server holds, what it was asked, and its faults."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)  # data sets: datasets/<repo>
    readers: set[str] = field(default_factory=set)  # tokens with access to gated repositories
    others: set[str] = field(default_factory=set)  # valid tokens without
    asked: list[Asked] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # file -> bytes of each answer before it breaks
    lies: dict[str, bytes] = field(default_factory=dict)  # file -> what is sent instead
    broken: int = 0  # status of every answer, if not 0
    per_page: int = 1000

    def add(self, repo, files, **facts):
        """Publish a repository."""
        self.repos[repo] = Repo(files, **facts)
        return self.repos[repo]

    def got(self, method="GET", part=""):
        """Paths asked for with a method, in order, those that contain ``part``."""
        return [a.path for a in self.asked if a.method == method and part in a.path]

    def ranges(self, part=""):
        """Ranges of the GET requests, in order."""
        return [a.range for a in self.asked if a.method == "GET" and part in a.path]


def sha256(content):
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """``with Server() as hub``: runs until the block ends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = Hub(url=f"http://127.0.0.1:{self.server_port}")
        self.store = f"http://localhost:{self.server_port}/store"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self.hub

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers of the hub and of the store behind it."""

    def do_HEAD(self):
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self):
        """One request."""
        hub = self.server.hub
        address = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(address.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        host = (self.headers.get("Host") or "").split(":")[0]
        hub.asked.append(Asked(self.command, host, path, self.headers.get("Range"), token))
        if hub.broken:
            self.answer(hub.broken, {})
        elif path.startswith("/store/"):
            repo, _, name = path.removeprefix("/store/").partition("//")
            self.send_file(name, hub.repos[repo].files[name])
        elif match := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*match.groups(), token)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            self.api(*match.groups(), urllib.parse.parse_qs(address.query), token)
        else:
            self.refuse(404, "RepoNotFound", "Repository not found")

    # ------------------------------------------------------------------ the hub

    def allowed(self, name, revision, token, file=None):
        """The repository, or None after an answer that says why not, in the hub's own order."""
        hub, repo = self.server.hub, self.server.hub.repos.get(name)
        if token is not None and token not in hub.readers | hub.others:
            self.refuse(401, None, "Invalid credentials in Authorization header")
        elif repo is None:
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repo.gated and file is not None and token not in hub.readers:
            self.refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        elif revision not in (repo.revision, "main"):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif file is not None and file not in repo.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            return repo
        return None

    def resolve(self, name, revision, file, token):
        """A file: git's own ones directly, large ones by redirection."""
        if (repo := self.allowed(name, revision, token, file)) is None:
            return
        content = repo.files[file]
        headers = {"X-Repo-Commit": repo.revision, "Accept-Ranges": "bytes"}
        if file.endswith(SMALL):
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self.send_file(file, content, headers | {"ETag": f'"{blob}"'})
            return
        place = urllib.parse.quote(f"/{name}//{file}")
        headers |= {
            "Location": f"{self.server.store}{place}?X-Amz-Signature=signed",
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{sha256(content)}"',
        }
        self.answer(302, headers)

    def api(self, name, what, revision, query, token):
        """Facts of a revision, or a page of its files."""
        if (repo := self.allowed(name, revision, token)) is None:
            return
        if what == "revision":
            gated = "manual" if repo.gated else False
            card = {"license": "mit"}
            self.send_json({"id": name, "sha": repo.revision, "gated": gated, "cardData": card})
            return
        rows = [{"type": "directory", "path": "folder", "oid": "0", "size": 0}]
        for file, content in repo.files.items():
            row = {"type": "file", "path": file, "oid": "0" * 40, "size": len(content)}
            if not file.endswith(SMALL):
                row["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
            rows.append(row)
        start, step = int(query.get("cursor", ["0"])[0]), self.server.hub.per_page
        headers = {}
        if start + step < len(rows):
            path = self.path.split("?")[0]
            more = f"{self.server.hub.url}{path}?recursive=true&cursor={start + step}"
            headers["Link"] = f'<{more}>; rel="next"'
        self.send_json(rows[start : start + step], headers)

    # ------------------------------------------------------------------ bytes

    def send_file(self, name, content, headers=None):
        """A file or the asked-for rest of it, with the planted faults."""
        hub = self.server.hub
        content = hub.lies.get(name, content)
        start = int(re.findall(r"\d+", self.headers.get("Range") or "0")[0])
        if start and start >= len(content):
            self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = dict(headers or {})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = None
        if self.command == "GET" and hub.cuts.get(name):
            cut = hub.cuts[name].pop(0)
        self.answer(206 if start else 200, headers, content[start:], cut)

    def send_json(self, value, headers=None):
        """A JSON answer."""
        self.answer(200, {"Content-Type": "application/json"} | (headers or {}), json.dumps(value).encode())

    def refuse(self, status, code, message):
        """An error as the hub words it: in headers and in the body."""
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(status, headers, json.dumps({"error": message}).encode())

    def answer(self, status, headers, body=b"", cut=None):
        """Headers, then the body or its first ``cut`` bytes."""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *_):
        """Silent."""


# --------------------------------------------------------------------------- what tests publish and ask for


@contextlib.contextmanager
def running_hub(monkeypatch, home):
    """A hub of one's own that every client here asks, and no token; ``home`` may hold one."""
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
    with Server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


TOWER, LANGUAGE = "vision_tower.", "language_model."


def tensors(*names):
    """Random square tensors of these names."""
    return {name: torch.randn(64, 64) for name in names}


def checkpoint(*names):
    """A safetensors file with tensors of these names."""
    return save(tensors(*names))


def sharded():
    """Four shards; the tower lies in the second and the last, the projector in the third."""
    parts = [
        [LANGUAGE + "a"], [LANGUAGE + "b", TOWER + "a"], [LANGUAGE + "c", "projector.w"], [TOWER + "b"],
    ]  # fmt: skip
    shards = {f"model-0000{i}-of-00004.safetensors": names for i, names in enumerate(parts, 1)}
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    files = {shard: checkpoint(*names) for shard, names in shards.items()}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


def card(files=(), prefix="", **source):
    """A card whose weights are ``files`` of org/net at ``REVISION``; ``source`` changes that."""
    return ModelCard(
        name="planted",
        weights={"kind": "hub", "repo": "org/net", "revision": REVISION, "files": list(files)} | source,
        loader={"route": "timm", "arch": "x", "prefix": prefix},
        preprocess={"resize": "none", "size": 4},
        features=[{"name": "pooled", "d": 3}],
    )
