"""Files of a git repository at one commit, with the git program; nothing of the repository is run.

Only the commit's trees and the files that the card names are fetched, in portions that survive a broken
connection or a killed job. There is never a work tree: the files are read from the object store, so that
hooks, filters, links, submodules and large-file pointers do nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from discern.errors import DiscernError, problem
from discern.fetching.space import check_free, explained_if_full
from discern.fetching.transfer import CHUNK, locked, log
from discern.sources import GitSource

PORTION = 500  # files fetched at once; what has arrived stays when the next portion breaks
SCHEMES = ("https", "http", "file")
LINK, SUBMODULE = "120000", "160000"
POINTER = b"version https://git-lfs.github.com/spec/"

#: Settings of another repository, or questions to a person, must not reach the program.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
OPTIONS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false",
    "fetch.negotiationAlgorithm=noop", "fetch.recurseSubmodules=false", "protocol.version=2",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One file of the commit."""

    path: str
    blob: str


def has_git() -> bool:
    """Whether the git program is here."""
    return shutil.which("git") is not None


def fetch_git(source: GitSource, cache: Path, target: Path) -> list[Path]:
    """Write the card's files at its commit into ``target``; returns their paths.

    ``cache``: folder of the object store, which is kept. Links and submodules are left out with a
    warning. Raises DiscernError if git is absent, the server refuses, the commit has no such path, a
    file is a large-file pointer, or the disk is full.
    """
    where = f"{source.url} at {source.commit}"
    if not has_git():
        raise problem(where, "the program git is not installed", repair="install git, then run again")
    if urllib.parse.urlsplit(source.url).scheme not in SCHEMES:
        raise problem(where, "not an address that can be fetched", allowed=SCHEMES)
    store = Path(cache) / f"git-{source.commit[:12]}"
    with locked(store) as lock, explained_if_full(store, source.bytes, where):
        repository = _Repository(source, store, where, lock)
        repository.complete()
        return repository.write(Path(target))


class _Repository:
    """The object store of one commit."""

    def __init__(self, source: GitSource, store: Path, where: str, lock: int):
        self._source, self._store, self._where, self._lock = source, store, where, lock

    def complete(self) -> None:
        """Fetch what is not here yet: the commit with its trees, then the files."""
        if not (self._store / "HEAD").is_file():
            check_free(self._store, self._source.bytes or 0, self._where)
            self._git("init", "--quiet", "--bare", ".")
        for stale in self._store.glob("*.lock"):  # of a killed job; ours is the only one now
            stale.unlink()
        if self._missing() is None:
            self._git("config", "remote.origin.url", self._source.url)
            self._fetch("--depth=1", "origin", self._source.commit)
        missing = self._missing()
        if missing is None:
            raise problem(self._where, "the server sent another commit", repair="correct commit in the card")
        wanted = list(dict.fromkeys(e.blob for e in self._entries() if e.blob in missing))
        with _bar(len(wanted), self._source.url) as bar:
            for start in range(0, len(wanted), PORTION):
                portion = wanted[start : start + PORTION]
                self._fetch("--stdin", "origin", given="\n".join(portion))
                bar.update(len(portion))

    def write(self, target: Path) -> list[Path]:
        """The files, byte by byte as they were committed."""
        entries, paths = self._entries(), []
        given = "".join(f"{entry.blob}\n" for entry in entries).encode()
        with self._start("cat-file", "--batch") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # Answers fill the pipe before all questions are asked.
            asking = threading.Thread(target=_ask, args=(process.stdin, given), daemon=True)
            asking.start()
            for entry in entries:
                path = target / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                self._copy(process.stdout, entry, path)
                paths.append(path)
            asking.join()
        return paths

    def _copy(self, answers: IO[bytes], entry: Entry, path: Path) -> None:
        _, kind, size = [*answers.readline().decode().split(), "", ""][:3]
        if kind != "blob":
            raise problem(self._where, f"{entry.path} is not in the object store", repair="run again")
        left, beginning = int(size), b""
        with open(path, "xb") as sink:
            while left:
                chunk = answers.read(min(left, CHUNK))
                if not chunk:
                    raise problem(self._where, f"git ended in the middle of {entry.path}", repair="run again")
                beginning = beginning or chunk[: len(POINTER)]
                sink.write(chunk)
                left -= len(chunk)
        answers.read(1)  # a line end follows
        if beginning == POINTER:
            raise problem(
                self._where,
                f"{entry.path} is a pointer to large-file storage, not the file itself",
                repair="get the files from the repository's page and place them by hand",
            )

    def _entries(self) -> list[Entry]:
        """Files of the commit under the card's paths."""
        paths = [path.rstrip("/") for path in self._source.paths]
        listing = self._git("ls-tree", "-r", "-z", "--full-tree", self._source.commit)
        entries, left_out = [], []
        for line in filter(None, listing.split("\0")):
            facts, path = line.split("\t", 1)
            mode, _, blob = facts.split()
            if paths and not any(path == p or path.startswith(f"{p}/") for p in paths):
                continue
            if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
                raise problem(self._where, f"'{path}' would leave the target folder")
            if mode in (LINK, SUBMODULE):
                left_out.append(path)
            else:
                entries.append(Entry(path, blob))
        if left_out:
            log.warning(
                "warning: %s: %d links and submodules are left out, e.g. %s",
                self._where, len(left_out), left_out[0],
            )  # fmt: skip
        for path in paths:
            if not any(e.path == path or e.path.startswith(f"{path}/") for e in entries):
                raise problem(self._where, f"has no '{path}'", repair="correct `paths` in the card")
        return entries

    def _missing(self) -> set[str] | None:
        """Objects of the commit that are not here; None if the commit itself or a tree is not."""
        done = self._run("rev-list", "--objects", "--no-object-names", "--missing=print", self._source.commit)
        absent = {line[1:] for line in done.stdout.splitlines() if line.startswith("?")}
        return None if done.returncode or self._source.commit in absent else absent

    def _fetch(self, *arguments: str, given: str = "") -> None:
        self._git(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none", *arguments,
            given=given,
        )  # fmt: skip

    def _git(self, *arguments: str, given: str = "") -> str:
        done = self._run(*arguments, given=given)
        if done.returncode:
            raise self._refused(done.stderr)
        return done.stdout

    def _refused(self, said: str) -> DiscernError:
        lines = [line for line in said.splitlines() if line.startswith(("fatal", "error", "remote"))]
        what, repair = "; ".join(lines or said.splitlines()[-1:]) or "git failed", "check the network"
        if "No space left" in said or "File too large" in said:
            repair = "free space, or make the folder a link to a larger disk"
        elif "unadvertised object" in said or "not our ref" in said:
            repair = "correct commit in the card, if the server has it no more or hands out branches only"
        elif "error: 403" in said or "Authentication failed" in said:
            repair = "look at the address in a browser: access may have to be granted"
        return problem(self._where, what, repair=f"{repair}, then run again (it goes on where it stopped)")

    def _run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        with self._start(*arguments) as process:
            out, said = process.communicate(given.encode())
        return subprocess.CompletedProcess(
            arguments,
            process.returncode,
            out.decode("utf-8", "surrogateescape"),
            said.decode(errors="replace"),
        )

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self._store.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
        environment |= {
            "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES), "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_ASKPASS": "true", "LC_ALL": "C", "GIT_DIR": ".",
        }  # fmt: skip
        options = [part for option in OPTIONS for part in ("-c", option)]
        return subprocess.Popen(
            ["git", *options, *arguments],
            cwd=self._store,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(self._lock,),  # a killed job's git keeps others from the store until it ends
        )


def _ask(pipe: IO[bytes], given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # git ended early, and its answers say so
        pipe.write(given)
        pipe.close()


def _bar(total: int, name: str):  # type: ignore[no-untyped-def]  # tqdm has no annotations
    from tqdm import tqdm

    return tqdm(
        total=total, desc=name, unit="file", file=sys.stderr, disable=not total,
        mininterval=0.5 if sys.stderr.isatty() else 10,
    )  # fmt: skip
