"""Checkpoint files are read tensor by tensor, from the shards that matter, and run nothing."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from shards import PREFIX, write_llava

from discern.encoders.base import Request, load_encoder
from discern.encoders.checkpoint import Checkpoint, open_checkpoint, read_state
from discern.errors import DiscernError
from discern.model_card import Loader, Preprocess
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
L14_336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip
GIB = 1 << 30


def tower(options, dtype=torch.float32):
    torch.manual_seed(0)
    module = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**options))
    return {k.removeprefix("vision_model."): v.to(dtype) for k, v in module.state_dict().items()}


def spec(options):
    loader = {"route": "transformers", "arch": "CLIPVisionModel", "options": options, "prefix": PREFIX}
    return {
        "name": "planted",
        "loader": loader,
        "preprocess": {"resize": "squash", "size": options["image_size"]},
        "feature": {"name": "patches", "d": options["hidden_size"], "output": "patch_mean@-2"},
    }


def checkpoint(weights, prefix=PREFIX):
    loader = Loader(route="transformers", prefix=prefix)
    preprocess = Preprocess(resize="none", size=4)
    return open_checkpoint(Request("planted", loader, preprocess, "", 5, weights, "cpu"))


# The kernel's figure for this program alone; getrusage counts that of the parent before exec as well.
PEAK = """
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
"""
READ = """
import json, sys
from pathlib import Path
from discern.encoders.checkpoint import Checkpoint, INDEX
{PEAK}
before = peak()
total = 0
for files in json.loads(sys.argv[1]):
    paths = [Path(f) for f in files]
    indices = [p for p in paths if p.name.endswith(INDEX)]
    checkpoint = Checkpoint([p for p in paths if p not in indices], [sys.argv[2]], indices)
    total += sum(v.double().sum().item() for _, v in checkpoint.read(checkpoint.shapes))
print(json.dumps([before, peak(), total]))
"""
LOAD = """
import json, sys
from pathlib import Path
from discern.encoders.base import load_encoder
import transformers
transformers.CLIPVisionModel
{PEAK}
before = peak()
spec, weights = json.loads(sys.argv[1])
encoder = load_encoder(spec, {k: Path(v) for k, v in weights.items()}, "cpu")
total = sum(p.double().sum().item() for p in encoder.module.state_dict().values())
print(json.dumps([before, peak(), total]))
"""


def fresh(code, *arguments):
    """Peak memory (bytes) of a fresh process after its imports and in all, and the sum of the weights."""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("{PEAK}", PEAK), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def summed(state):
    return sum(v.double().sum().item() for v in state.values())


def test_a_tower_is_read_without_the_language_model_around_it(tmp_path):
    truth = tower(SMALL)
    published = []
    for kind in ("safetensors", "bin"):
        (tmp_path / kind).mkdir()
        weights = write_llava(tmp_path / kind, truth, kind, language=GIB)  # 2 GiB each
        assert sum(f.stat().st_size for f in weights.values()) > 8 * GIB
        published.append([str(f) for f in weights.values()])
    before, peak, total = fresh(READ, json.dumps(published), PREFIX)
    assert peak - before < GIB / 4
    assert total == pytest.approx(2 * summed(truth), rel=1e-9)


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("safetensors", torch.float32), ("bin", torch.float16), ("bin", torch.float32)],
    ids=str,
)
def test_the_tower_of_a_7b_checkpoint_loads_within_3_gib(tmp_path, kind, dtype):
    truth = tower(L14_336, dtype)
    weights = write_llava(tmp_path, truth, kind, language=2 * GIB)  # 16 GiB in all
    card = Registry([ROOT / "registry"]).models["llava_med"]
    task = json.dumps([card.extraction_spec(), {k: str(v) for k, v in weights.items()}])
    before, peak, total = fresh(LOAD, task)
    print(f"\npeak {peak / GIB:.2f} GiB, {before / GIB:.2f} GiB of it imports, {kind}, {dtype}")
    assert peak < 3 * GIB
    assert total == pytest.approx(summed(truth), rel=1e-6)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_without_wanted_tensors_need_not_be_there(tmp_path, kind):
    weights = write_llava(tmp_path, tower(SMALL), kind, language=4)
    first = next(name for name in weights if "00001" in name)
    del weights[first]
    assert load_encoder(spec(SMALL), weights).d == 64


def test_a_missing_shard_is_named_with_its_tensor(tmp_path):
    weights = write_llava(tmp_path, tower(SMALL), "safetensors", language=4)
    del weights["model-00002-of-00003.safetensors"]
    with pytest.raises(DiscernError, match=rf"00002-of-00003.safetensors: .*holds '{PREFIX}embeddings"):
        checkpoint(weights)


def test_a_shard_that_lacks_what_its_index_promises_is_named(tmp_path):
    state = tower(SMALL)
    weights = write_llava(tmp_path, state, "safetensors", language=4)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"][PREFIX + "post_layernorm.gone"] = "model-00003-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(DiscernError, match=r"00003-of-00003.safetensors: lacks .*post_layernorm\.gone"):
        checkpoint(weights)


def test_a_damaged_index_is_named(tmp_path):
    weights = write_llava(tmp_path, tower(SMALL), "safetensors", language=4)
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {}}')
    with pytest.raises(DiscernError, match=r"index\.json: has no 'weight_map'"):
        checkpoint(weights)


def test_shards_are_read_only_as_far_as_wanted(tmp_path):
    save_file({"tower.a": torch.ones(2), "language.a": torch.ones(3)}, tmp_path / "1.safetensors")
    save_file({"tower.b": torch.zeros(2)}, tmp_path / "2.safetensors")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert set(read_state(files, ["tower."])) == {"tower.a", "tower.b"}
    save_file({"tower.b": torch.zeros(2)}, tmp_path / "3.safetensors")
    with pytest.raises(DiscernError, match=r"a second tensor named tower\.b"):
        read_state(sorted(tmp_path.glob("*.safetensors")), ["tower."])


def saved(tmp_path, content, name="weights.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_wrappers_and_nested_mappings_come_off(tmp_path, modern):
    inner = {"a.weight": torch.ones(2), "b.weight": torch.zeros(3)}
    options = {"_use_new_zipfile_serialization": modern}
    wrapped = {"model": {"state_dict": {f"module.{k}": v for k, v in inner.items()}}, "epoch": 3}
    assert set(read_state([saved(tmp_path, wrapped, **options)], [""])) == set(inner)
    students = {"teacher": inner, "student": {"head": {"w": torch.ones(1)}}, "epoch": 1}
    assert set(read_state([saved(tmp_path, students, **options)], ["teacher."])) == {
        "teacher.a.weight", "teacher.b.weight",
    }  # fmt: skip


def test_a_prefix_that_names_the_wrapper_keeps_it(tmp_path):
    state = {"module.image_encoder.w": torch.ones(2), "module.text_encoder.w": torch.ones(2)}
    file = saved(tmp_path, {"state_dict": state})
    assert set(read_state([file], ["module.image_encoder."])) == {"module.image_encoder.w"}
    assert set(read_state([file], ["image_encoder."])) == {"image_encoder.w"}


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_a_file_that_holds_code_is_refused_before_it_runs(tmp_path, monkeypatch, modern):
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, {"a": torch.ones(2), "config": Payload()}, _use_new_zipfile_serialization=modern)
    with pytest.raises(DiscernError, match="holds more than tensors") as caught:
        Checkpoint([file], [""], model="planted")
    assert "python -m discern convert planted --trust " in str(caught.value)
    assert not Path("owned").exists()
    torch.load(file, weights_only=False)  # the payload is real
    assert Path("owned").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut_legacy.pth", "cut.safetensors"])
def test_a_truncated_file_is_named(tmp_path, name):
    whole = tmp_path / f"whole{Path(name).suffix}"
    if name.endswith("pth"):
        options = {"_use_new_zipfile_serialization": "legacy" not in name}
        torch.save({"a": torch.ones(1000)}, whole, **options)
    else:
        save_file({"a": torch.ones(1000)}, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(DiscernError, match=f"{name}: cannot be read as a checkpoint"):
        read_state([tmp_path / name], [""])


def test_an_empty_or_foreign_file_is_named(tmp_path):
    (tmp_path / "empty.pth").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "page.pt", "w") as archive:
        archive.writestr("index.html", "<html>")
    for name in ("empty.pth", "page.pt"):
        with pytest.raises(DiscernError, match=f"{name}: cannot be read as a checkpoint"):
            read_state([tmp_path / name], [""])


def test_a_torchscript_program_is_no_checkpoint(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(DiscernError, match="TorchScript program, not a checkpoint"):
        read_state([tmp_path / "program.pt"], [""])


def test_a_wrong_prefix_shows_the_names_that_are_there(tmp_path):
    with pytest.raises(DiscernError, match=r"begins with tower; the names are 0\.bias"):
        read_state([saved(tmp_path, {"0.bias": torch.ones(2)})], ["tower"])
