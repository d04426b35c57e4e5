"""Files are whole or absent, and what a killed writer leaves does not stay."""

import os
import subprocess
import sys

from discern import files
from discern.files import atomic, write_text

WRITER = """
import sys, time
from discern.files import atomic
with atomic(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def hidden(folder):
    return sorted(folder.glob(".*.tmp*"))


def writer(target):
    """A process that has begun to write ``target``."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_process_left_goes_and_a_living_one_is_not_disturbed(tmp_path, monkeypatch):
    killed, living = writer(tmp_path / "killed.json"), writer(tmp_path / "living.json")
    assert len(hidden(tmp_path)) == 2
    killed.kill()
    killed.wait()
    monkeypatch.setattr(files, "_swept", set())
    write_text(tmp_path / "another.json", "whole")
    assert [str(living.pid) in file.name for file in hidden(tmp_path)] == [True]
    living.kill()
    living.wait()
    write_text(tmp_path / "third.json", "whole")  # once for a folder and a process
    assert len(hidden(tmp_path)) == 1


def test_another_hosts_file_goes_once_nobody_touches_it(tmp_path, monkeypatch):
    new, old = tmp_path / ".0.1@elsewhere.tmp.parquet", tmp_path / ".1.1@elsewhere.tmp"
    users = tmp_path / ".notes.tmp"
    for file in (new, old, users):
        file.touch()
    os.utime(old, (0, 0))
    os.utime(users, (0, 0))
    monkeypatch.setattr(files, "_swept", set())
    write_text(tmp_path / "whole", "")
    assert sorted(hidden(tmp_path)) == sorted([new, users])


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    target = tmp_path / ("ü" * 125 + ".json")
    with atomic(target) as temporary:
        temporary.touch()
    assert target.is_file()
