"""A conda channel on the disk, made in seconds: Python from this interpreter, pip from the package index."""

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from rattler import Platform
from rattler.index import index_fs
from uv import find_uv_bin

PYTHON = ".".join(map(str, sys.version_info[:3]))
LIB = f"python{sys.version_info.major}.{sys.version_info.minor}"
#: Parts of the standard library that no job imports, and what other people's pip installed.
UNUSED = {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests", "tkinter"}


def make_channel(folder, pip):
    """Write `conda-forge` (python, and pip of that version) and an empty `nodefaults` into ``folder``."""
    forge, platform = folder / "conda-forge", str(Platform.current())
    for channel in (forge, folder / "nodefaults"):
        for subdir in (platform, "noarch"):
            (channel / subdir).mkdir(parents=True)
    _copy_python(folder / "python")
    _pack(folder / "python", forge, {"name": "python", "version": PYTHON, "subdir": platform, "depends": []})
    subprocess.run(
        [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", f"pip=={pip}",
         "--target", folder / "pip" / "site-packages"], check=True,
    )  # fmt: skip
    link = {"noarch": {"type": "python", "entry_points": ["pip = pip._internal.cli.main:main"]}}
    _pack(
        folder / "pip",
        forge,
        {"name": "pip", "version": pip, "subdir": "noarch", "noarch": "python", "depends": ["python"]},
        link | {"package_metadata_version": 1},
    )
    for channel in (forge, folder / "nodefaults"):
        asyncio.run(index_fs(channel))


def _copy_python(stage):
    """The interpreter, its shared library if it has one, and the standard library, as conda lays them out."""
    base = Path(sys.base_prefix).resolve()
    (stage / "bin").mkdir(parents=True)
    shutil.copy2(base / "bin" / LIB, stage / "bin")
    for name in ("python", "python3"):
        (stage / "bin" / name).symlink_to(LIB)
    static = Path(sysconfig.get_config_var("LIBPL")).name
    shutil.copytree(
        base / "lib" / LIB,
        stage / "lib" / LIB,
        ignore=lambda _, names: UNUSED.union([static]).intersection(names),
    )
    (stage / "lib" / LIB / "site-packages").mkdir()
    (stage / "lib" / LIB / "site-packages" / "README.txt").write_text("Packages go here.\n")
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, stage / "lib", follow_symlinks=False)


def _pack(stage, channel, about, link=None):
    """Write the tree ``stage`` as one package of the channel."""
    files = sorted(p for p in stage.rglob("*") if p.is_symlink() or p.is_file())
    about |= {"build": "local_0", "build_number": 0}
    paths = [
        {
            "_path": str(p.relative_to(stage)),
            "path_type": "softlink" if p.is_symlink() else "hardlink",
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
            "size_in_bytes": p.stat().st_size,
        }
        for p in files
    ]
    records = {"index": about, "paths": {"paths": paths, "paths_version": 1}, "about": {}}
    (stage / "info").mkdir()
    for name, record in (records | ({"link": link} if link else {})).items():
        (stage / "info" / f"{name}.json").write_text(json.dumps(record))
    target = channel / about["subdir"] / "{name}-{version}-{build}.tar.bz2".format(**about)
    with tarfile.open(target, "w:bz2", compresslevel=1) as tar:
        for name in ("info", *(p["_path"] for p in paths)):
            tar.add(stage / name, name)
