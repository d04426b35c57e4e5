"""A git server on this machine: git's own http-backend behind a small HTTP server, with planted faults."""

import http.server
import os
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", "2024-01-01T00:00:00Z"))
}


def git(folder, *arguments):
    """Run git in ``folder``; its output."""
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *arguments],
        cwd=folder, text=True, capture_output=True, check=True, env=os.environ | IDENTITY,
    )  # fmt: skip
    return done.stdout.strip()


def commit(folder, files, message="m"):
    """Write files, commit everything; the commit's name."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Faults:
    """What the server does instead of answering, and what it was asked."""

    status: int = 0  # of every answer, if not 0
    old: bool = False  # speaks the first protocol only
    breaks: int = -1  # answers with objects before every further one is cut in the middle; -1: never
    hold: threading.Event | None = None  # answers with objects wait for it after their first bytes
    held: threading.Event = field(default_factory=threading.Event)
    sent: list[int] = field(default_factory=list)  # bytes of each answer with objects


class GitServer(http.server.ThreadingHTTPServer):
    """``with GitServer(folder) as faults``: serves the repositories in a folder until the block ends."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.faults = Path(folder), Faults()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        if self.faults.hold:
            self.faults.hold.set()
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        self._answer(body)

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, body):
        faults = self.server.faults
        if faults.status:
            self.send_response(faults.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": self.command,
            "PATH_INFO": path, "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": "" if faults.old else self.headers.get("Git-Protocol") or "",
            "CONTENT_LENGTH": str(len(body)),
        }  # fmt: skip
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=False, env=environment
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in lines if name == "Status"), 200)
        self.send_response(status)
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if b"packfile" in content[:2000]:
            content = self._with_faults(content)
        self.wfile.write(content)

    def _with_faults(self, content):
        faults = self.server.faults
        if faults.hold is not None:
            self.wfile.write(content[:30])
            self.wfile.flush()
            faults.held.set()
            faults.hold.wait(60)
            content = content[30:]
        if faults.breaks == 0:
            self.close_connection = True
            return content[: len(content) // 2]
        faults.breaks -= faults.breaks > 0
        faults.sent.append(len(content))
        return content

    def log_message(self, *_):
        """Silent."""
