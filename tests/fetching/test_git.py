"""Folders of a git repository at one commit: a real server, real git, and what may go wrong between them."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from discern.errors import DiscernError
from discern.fetching import git as fetching_git
from discern.fetching.git import fetch_git
from discern.sources import GitSource
from tests.fetching.git_server import GitServer, commit, git

FILES = {
    "data/Images/1/1_l1.jpg": os.urandom(40_000),
    "data/Images/1/1_r1.jpg": os.urandom(40_000),
    "data/sheet (a&b).csv": b"a,b\n1,$Format:%H$\n",
    "other/big.bin": os.urandom(300_000),
    "README.md": b"read me",
}


@pytest.fixture
def server(tmp_path):
    """A server with the repository ``set``, which has a history and an attribute file full of traps."""
    folder = tmp_path / "served"
    commit(folder / "set", {"old.bin": os.urandom(200_000)})
    (folder / "set" / "old.bin").unlink()
    attributes = b"*.csv text eol=crlf export-subst\n*.jpg filter=evil\nREADME.md export-ignore\n"
    with GitServer(folder) as running:
        running.commit = commit(folder / "set", FILES | {".gitattributes": attributes})
        for option in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
            git(folder / "set", "config", option, "true")
        yield running


def source(server, **changes):
    facts = {"kind": "git", "url": f"{server.url}/set/.git", "commit": server.commit, "paths": ["data/"]}
    return GitSource(**facts | changes)


def fetched(entry, tmp_path, name="out"):
    out = tmp_path / name
    shutil.rmtree(out, ignore_errors=True)
    paths = fetch_git(entry, tmp_path / "cache", out)
    assert sorted(paths) == sorted(p for p in out.rglob("*") if not p.is_dir())
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in paths}


def refused(entry, tmp_path):
    with pytest.raises(DiscernError) as caught:
        fetch_git(entry, tmp_path / "cache", tmp_path / "refused")
    return str(caught.value)


WANTED = {name: content for name, content in FILES.items() if name.startswith("data/")}


def test_only_the_folders_at_the_commit_come_byte_by_byte_and_once(server, tmp_path):
    commit(server.folder / "set", {"data/sheet (a&b).csv": b"newer"})
    assert fetched(source(server), tmp_path) == WANTED
    assert sum(server.faults.sent) < 150_000  # neither the history nor other folders
    asked = len(server.faults.sent)
    server.faults.status = 500  # from now on nothing comes from the server
    assert fetched(source(server), tmp_path) == WANTED
    assert len(server.faults.sent) == asked


def test_without_paths_everything_comes(server, tmp_path):
    assert fetched(source(server, paths=[]), tmp_path).keys() == {*FILES, ".gitattributes"}


def test_further_paths_are_added_to_what_is_there(server, tmp_path):
    fetched(source(server), tmp_path)
    before = len(server.faults.sent)
    both = fetched(source(server, paths=["data", "README.md"]), tmp_path)
    assert both == WANTED | {"README.md": b"read me"}
    assert sum(server.faults.sent[before:]) < 2000


def test_a_server_without_filters_sends_all_and_serves_as_well(server, tmp_path):
    git(server.folder / "set", "config", "uploadpack.allowFilter", "false")
    assert fetched(source(server), tmp_path) == WANTED


def test_links_and_submodules_are_left_out(server, tmp_path, caplog):
    folder = server.folder / "set"
    (folder / "data" / "link.jpg").symlink_to("/etc/passwd")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{server.commit},data/module")
    server.commit = commit(folder, {})
    assert fetched(source(server), tmp_path) == WANTED
    assert "links and submodules are left out, e.g. data/" in caplog.text


def test_hooks_filters_and_templates_do_nothing(server, tmp_path, monkeypatch):
    """Of the user's own configuration, which git obeys, nothing runs that a repository could ask for."""
    home, proof = tmp_path / "home", tmp_path / "ran"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{proof}'\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\nhooksPath = {hooks}\n[filter "evil"]\nsmudge = touch {proof}\nrequired = true\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(server.folder / "set" / ".git"))  # as inside somebody's hook
    assert fetched(source(server), tmp_path) == WANTED
    assert not proof.exists()


def test_large_file_pointers_are_refused(server, tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    server.commit = commit(server.folder / "set", {"data/a.jpg": pointer})
    assert "data/a.jpg is a pointer to large-file storage" in refused(source(server), tmp_path)


def test_what_is_not_there_is_named(server, tmp_path):
    assert "has no 'date'" in refused(source(server, paths=["data", "date/"]), tmp_path)
    text = refused(source(server, commit="0" * 40), tmp_path)
    assert "not our ref" in text
    assert "correct commit in the card" in text
    text = refused(source(server, url=f"{server.url}/nothing/.git", commit="1" * 40), tmp_path)
    assert "not found" in text


def test_a_server_that_hands_out_branches_only(server, tmp_path):
    server.faults.old = True
    assert fetched(source(server), tmp_path) == WANTED
    shutil.rmtree(tmp_path / "cache")
    git(server.folder / "set", "config", "uploadpack.allowAnySHA1InWant", "false")
    commit(server.folder / "set", {"newer": b""})
    text = refused(source(server), tmp_path)
    assert "does not allow request for unadvertised object" in text
    assert "hands out branches only" in text


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_asks_for_nothing_at_the_terminal(server, tmp_path, status):
    server.faults.status = status
    text = refused(source(server), tmp_path)
    assert "access may have to be granted" in text
    assert server.url in text


def test_other_protocols_and_an_absent_git(server, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="blanks"):  # refused by the card
        source(server, url="ext::sh -c touch% x")
    for url in ("ext::sh", "ssh://host/x", "git://host/x", "-upload-pack=x"):
        assert "not an address" in refused(source(server, url=url), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install git" in refused(source(server), tmp_path)


def test_a_broken_connection_goes_on_in_the_next_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching_git, "PORTION", 1)
    server.faults.breaks = 2  # the trees and the first file
    assert "goes on where it stopped" in refused(source(server), tmp_path)
    assert not (tmp_path / "refused").exists()
    server.faults.breaks, before = -1, len(server.faults.sent)
    assert fetched(source(server), tmp_path) == WANTED
    assert len(server.faults.sent) - before == len(WANTED) - 1


RUN = """
import sys
from pathlib import Path
from discern.fetching.git import fetch_git
from discern.sources import GitSource
fetch_git(GitSource.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_killed_job_is_taken_up(server, tmp_path):
    """With its git, and with a git that lives on for a while and must not be disturbed."""
    for killer in (os.killpg, os.kill):
        server.faults.hold = threading.Event()
        server.faults.held.clear()
        arguments = [source(server).model_dump_json(), tmp_path / "cache", tmp_path / "out"]
        job = subprocess.Popen([sys.executable, "-c", RUN, *arguments], start_new_session=True)
        assert server.faults.held.wait(60)
        killer(job.pid, signal.SIGKILL)
        job.wait()
        server.faults.hold.set()
        server.faults.hold = None
        (next((tmp_path / "cache").glob("git-*")) / "shallow.lock").touch()
        assert fetched(source(server), tmp_path) == WANTED
        shutil.rmtree(tmp_path / "cache")
