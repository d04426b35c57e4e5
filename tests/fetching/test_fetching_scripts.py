"""The scripts that fetch, and those that must not: every other job runs offline."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from discern.encoders.record import read_weights
from tests.fetching.hub_server import GATED, TOWER, card, sharded
from tests.fetching.packed import zip_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "workflow" / "scripts" / "fetch_weights.py"


def run(code_or_script, *arguments, **environment):
    own = {"PATH": os.environ["PATH"], "HOME": environment.pop("HOME")}
    return subprocess.run(
        [sys.executable, *code_or_script, *arguments],
        text=True, capture_output=True, check=False, env=own | environment,
    )  # fmt: skip


def test_the_script_fetches_and_shows_its_progress(hub, record, tmp_path):
    files = sharded()
    hub.add("org/net", files, gated=True)
    hub.readers.add("hf_secret")
    planted = card(prefix=TOWER, index="model.safetensors.index.json", **GATED)
    out = ["--card", planted.model_dump_json(), "--downloads", "downloads", "--out", str(record)]
    environment = {"HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    failed = run([SCRIPT], *out, **environment)
    assert failed.returncode == 1
    assert re.search(r"error: .*is gated.*\n.*terms\.example", failed.stderr)
    assert "Traceback" not in failed.stderr
    done = run([SCRIPT], *out, HF_TOKEN="hf_secret", **environment)
    assert done.returncode == 0, done.stderr
    assert "model-00004-of-00004.safetensors: 100%" in done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    assert len(read_weights(record)) == 3


@pytest.mark.parametrize(("script", "fetches"), [("fetch_weights", True), ("extract_features", False)])
def test_only_fetching_scripts_can_ask_a_hub(hub, script, fetches, tmp_path):
    """The script's first import, then what a model's own code could do behind one's back."""
    hub.add("org/net", {"config.json": b"{}"})
    code = (
        f"{beginning(script)}\nfrom huggingface_hub import hf_hub_download\n"
        "print(hf_hub_download('org/net', 'config.json'))"
    )
    done = run(["-c", code], HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert (done.returncode == 0) == fetches, done.stderr
    assert bool(hub.asked) == fetches


def beginning(script):
    """How a script of that name begins, as code for another process."""
    folder = str(SCRIPT.parent)
    return (
        f"import sys; sys.argv[0] = '{folder}/{script}.py'; sys.path.insert(0, {folder!r}); import bootstrap"
    )


@pytest.mark.parametrize("script", sorted(SCRIPT.parent.glob("*_*.py")), ids=lambda p: p.stem)
def test_every_script_decides_before_its_imports(script, tmp_path):
    imports = [line for line in script.read_text().splitlines() if line.startswith(("import", "from"))]
    ours = [line for line in imports if "bootstrap" in line or "discern" in line]
    assert ours[0].startswith("import bootstrap")
    code = f"{beginning(script.stem)}; import os; print(os.environ.get('HF_HUB_OFFLINE'))"
    offline = run(["-S", "-c", code], HOME=str(tmp_path)).stdout.strip()
    assert offline == ("None" if script.stem in ("fetch_weights", "fetch_dataset") else "1")


def test_the_script_of_data_sets_unpacks_what_a_person_has(tmp_path):
    archive = zip_of(tmp_path / "Set.zip", {"Set/a/1.png": b"1", "Set/b/1.png": b"2"})
    facts = {
        "name": "toy", "title": "Toy", "modality": "CT", "licence": "none",
        "classes": [{"name": "a"}, {"name": "b"}], "adapter": {"kind": "image_folder"},
        "source": {"kind": "manual", "place": "Set.zip"},
    }  # fmt: skip
    record = tmp_path / "project" / "toy" / "fetched.json"
    arguments = [
        "--card",
        json.dumps(facts),
        "--downloads",
        str(tmp_path / "downloads"),
        "--out",
        str(record),
    ]
    script = SCRIPT.with_name("fetch_dataset.py")
    failed = run([script], *arguments, "--place", str(tmp_path / "nowhere"), HOME=str(tmp_path))
    assert failed.returncode == 1
    assert "error: data set 'toy'" in failed.stderr
    assert "Traceback" not in failed.stderr
    done = run([script], *arguments, "--place", str(archive), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (Path(json.loads(record.read_text())["root"]) / "a" / "1.png").read_bytes() == b"1"
