"""The sub-commands of conda that Snakemake asks for, on conda's own solver and installer (py-rattler).

A test double for conda's command line alone: solving, linking, pip and activation are real.
CONDA_TEST_CHANNELS names the folder in which channels are looked up.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import rattler
import yaml

VERSION = "24.7.1"  # the oldest that Snakemake accepts


def create(file, prefix):
    """Solve an environment file against the local channels, install it, then its pip list as conda does."""
    wanted = yaml.safe_load(Path(file).read_text())
    specs = [item for item in wanted["dependencies"] if isinstance(item, str)]
    pip = [line for item in wanted["dependencies"] if isinstance(item, dict) for line in item["pip"]]
    folder = Path(os.environ["CONDA_TEST_CHANNELS"])
    channels = [rattler.Channel((folder / name).as_uri()) for name in wanted["channels"]]

    async def install():
        records = await rattler.solve(
            channels,
            specs,
            platforms=[rattler.Platform.current(), rattler.Platform("noarch")],
            virtual_packages=rattler.VirtualPackage.detect(),
        )
        await rattler.install(records, prefix, show_progress=False)

    asyncio.run(install())
    if pip:
        listed = Path(prefix) / "pip.txt"
        listed.write_text("\n".join(pip))
        command = ["-m", "pip", "install", "-U", "-r", str(listed), "--exists-action=b"]
        subprocess.run([f"{prefix}/bin/python", *command], check=True)


def answer(arguments):
    """Run one sub-command; anything that Snakemake 9 does not ask for is refused."""
    if arguments == ["--version"]:
        print(f"conda {VERSION}")
    elif arguments == ["info", "--json"]:
        platform = str(rattler.Platform.current())
        print(json.dumps({"conda_prefix": str(Path(__file__).parent), "platform": platform}))
    elif arguments[:2] == ["config", "--get"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif arguments[:2] == ["env", "create"]:
        parser = argparse.ArgumentParser()
        for flag in ("--quiet", "--no-default-packages"):
            parser.add_argument(flag, action="store_true")
        parser.add_argument("--file", required=True)
        parser.add_argument("--prefix", required=True)
        options = parser.parse_args(arguments[2:])
        create(options.file, options.prefix)
    elif arguments[:2] == ["clean", "-y"]:
        pass  # there is no package cache but the solver's own
    else:
        sys.exit(f"not a sub-command that this front end has: {arguments}")


if __name__ == "__main__":
    answer(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # the solver's threads now and then crash an interpreter that ends by itself
