"""Run the real workflow in a copy of the checkout and read what it plans and does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CORES = str(os.cpu_count() or 1)


@dataclass
class Run:
    """One finished call of Snakemake."""

    status: int
    text: str

    @property
    def jobs(self) -> Counter[tuple[str, str]]:
        """(rule, wildcards) of every job that was run or planned."""
        pattern = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", re.MULTILINE)
        found: Counter[tuple[str, str]] = Counter()
        for rule, body in pattern.findall(self.text):
            wildcards = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
            found[rule, wildcards[1] if wildcards else ""] += 1
        return found

    @property
    def rules(self) -> Counter[str]:
        """Number of jobs per rule, without the targets."""
        counts: Counter[str] = Counter()
        for (rule, _), n in self.jobs.items():
            if rule not in {"all", "features", "tables", "report"}:
                counts[rule] += n
        return counts


@dataclass
class Project:
    """A copy of the checkout; environments and downloads are shared with it."""

    path: Path

    @classmethod
    def copy_to(cls, path: Path) -> Project:
        files = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in files:
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        # Environments and downloads are pinned by digest and hash: made once, by whoever comes first.
        for shared in ("envs", "downloads"):
            (ROOT / "resources" / shared).mkdir(parents=True, exist_ok=True)
            (path / "resources").mkdir(exist_ok=True)
            (path / "resources" / shared).symlink_to(ROOT / "resources" / shared)
        return cls(path)

    def clone(self, path: Path) -> Project:
        """A second copy with everything already made, times included."""
        shutil.copytree(self.path, path, symlinks=True)
        return Project(path)

    def command(self, *arguments: str, study: str = "config/ci.yaml") -> list[str]:
        return [sys.executable, "-m", "snakemake", "--configfile", study, "--cores", CORES, *arguments]

    def snakemake(self, *arguments: str, study: str = "config/ci.yaml") -> Run:
        done = subprocess.run(
            self.command(*arguments, study=study), cwd=self.path, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return Run(done.returncode, done.stdout)

    def plan(self, study: str = "config/ci.yaml") -> Run:
        """A dry run."""
        run = self.snakemake("--dry-run", study=study)
        assert run.status == 0, run.text
        return run

    def edit(self, name: str, **changes: object) -> None:
        """Change top-level fields of a YAML file."""
        file = self.path / name
        content = yaml.safe_load(file.read_text()) | changes
        file.write_text(yaml.safe_dump(content, sort_keys=False))

    def read(self, name: str) -> dict:
        return yaml.safe_load((self.path / name).read_text())
