"""The authors' own runtimes: their environments built, their code run on planted checkpoints by the real job.

Compared with the native cards on the same files. Building an environment takes seconds where uv has
the packages, minutes and gigabytes where it does not; the first one is built in every run.
"""

import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from discern.contracts import FEATURES, feature_matrix, read_table
from discern.encoders.base import load_encoder
from discern.environments import build
from tests.parity.harness import CARDS, photographs, random_tensor, record, relative_difference
from tests.parity.official_checkpoints import (
    TOWER,
    WORDS,
    files_of,
    tower_state,
    write_conceptclip,
    write_inputs,
    write_llava,
)

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 4}
D = TOWER["hidden_size"]


def environment(tmp_path_factory, name):
    lock = tmp_path_factory.mktemp(name) / "lock.txt"
    build(ROOT / "envs" / f"{name}.yaml", lock)
    return str(lock.parent / "bin" / "python")


@pytest.fixture(scope="module")
def llava_med(tmp_path_factory):
    """Interpreter, and a LLaVA-Med checkpoint whose shards hold a tower that is not the stock one."""
    python = environment(tmp_path_factory, "llava_med_official")
    folder = tmp_path_factory.mktemp("med") / "checkpoint"
    write_llava(folder, python, "llava_mistral", tower=tower_state(seed=2))
    return python, folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    python = environment(tmp_path_factory, "llava_official")
    folder = tmp_path_factory.mktemp("llava") / "checkpoint"
    write_llava(folder, python, "llava_llama")
    return python, folder


@pytest.fixture(scope="module")
def conceptclip(tmp_path_factory):
    python = environment(tmp_path_factory, "conceptclip_official")
    trunk = timm.create_model("vit_so400m_patch14_siglip_384", num_classes=0, **SMALL)
    generator = torch.Generator().manual_seed(3)
    state = {f"visual.trunk.{k}": random_tensor(k, v.shape, generator) for k, v in trunk.state_dict().items()}
    folder = tmp_path_factory.mktemp("conceptclip") / "checkpoint"
    write_conceptclip(folder, state, SMALL)
    return python, folder


def extract(python, checkpoint, model, d, folder, expect=0):
    """The workflow's own script in the environment's interpreter; features, or the log of a failure."""
    manifest, weights = write_inputs(folder, checkpoint)
    spec = CARDS[model].extraction_spec()
    spec["feature"]["d"] = d
    command = [python, ROOT / "workflow" / "scripts" / "extract_features.py", "--spec", json.dumps(spec)]
    command += [
        "--manifest",
        manifest,
        "--weights",
        weights,
        "--out",
        folder / "out.parquet",
        "--device",
        "cpu",
    ]
    # An address that answers nothing: whoever asks the hub fails.
    variables = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(folder),
    }
    done = subprocess.run(command, env=variables, text=True, capture_output=True, check=False)
    assert (done.returncode != 0) == bool(expect), done.stderr[-3000:]
    if expect:
        return done.stderr
    table, about = read_table(FEATURES, folder / "out.parquet")
    assert about["preprocess"].endswith("by the authors' own code")
    return feature_matrix(table)


def native(model, weights, d, options):
    """Our own card on the same files."""
    card = CARDS[model]
    spec = card.extraction_spec()
    spec["loader"]["options"] |= options
    spec["feature"]["d"] = d
    return load_encoder(spec, weights, "cpu").encode(photographs(card.transform))


def stock(checkpoint):
    return {"pytorch_model.bin": checkpoint / "vision_tower" / "pytorch_model.bin"}


def own(checkpoint):
    return {n: f for n, f in files_of(checkpoint).items() if not n.startswith("vision_tower")}


def close(model, ours, theirs):
    difference = relative_difference(ours, theirs)
    card = CARDS[model]
    record(model, card.parity.kind, card.parity.against, difference, card.feature.d, card.params or 0)
    assert difference <= 1e-4, difference


def test_llava_med_runs_the_stock_tower_and_not_its_own(llava_med, tmp_path):
    python, checkpoint = llava_med
    official = extract(python, checkpoint, "llava_med@official", D, tmp_path)
    close("llava_med@official", native("llava_med@stock_clip", stock(checkpoint), D, TOWER), official)
    shards = native("llava_med", own(checkpoint), D, TOWER)
    assert relative_difference(shards, official) > 0.01  # the tower that the authors' loader leaves out


@pytest.mark.full
def test_llava_med_projector_is_its_own(llava_med, tmp_path):
    python, checkpoint = llava_med
    official = extract(python, checkpoint, "llava_med@official@projector_patch_mean", WORDS, tmp_path)
    weights = own(checkpoint)
    # The stock tower in the place of the shards' own, as the authors' loader has it.
    tower = {k: v for k, v in tower_state(seed=1).items() if "_ids" not in k}
    for name in [n for n in weights if n.endswith(".safetensors")]:
        state = load_file(weights[name])
        inside = "model.vision_tower.vision_tower."
        state |= {k: tower[k.removeprefix(inside)] for k in state if k.startswith(inside)}
        save_file(state, tmp_path / name)
        weights[name] = tmp_path / name
    index = "model.safetensors.index.json"
    weights[index] = tmp_path / index
    weights[index].write_text((checkpoint / index).read_text())
    ours = native("llava_med@projector_patch_mean", weights, WORDS, TOWER | {"projector": WORDS})
    assert relative_difference(ours, official) <= 1e-4


@pytest.mark.full
def test_llava_official(llava, tmp_path):
    python, checkpoint = llava
    official = extract(python, checkpoint, "llava@official", D, tmp_path)
    close("llava@official", native("llava@stock_clip", stock(checkpoint), D, TOWER), official)


@pytest.mark.full
def test_llava_official_names_a_tensor_that_is_missing(llava, tmp_path):
    python, checkpoint = llava
    whole = torch.load(checkpoint / "vision_tower" / "pytorch_model.bin", weights_only=True)
    name = "vision_model.encoder.layers.1.mlp.fc1.weight"
    try:
        part = {k: v for k, v in whole.items() if k != name}
        torch.save(part, checkpoint / "vision_tower" / "pytorch_model.bin")
        assert name in extract(python, checkpoint, "llava@official", D, tmp_path, expect=1)
    finally:
        torch.save(whole, checkpoint / "vision_tower" / "pytorch_model.bin")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.full
def test_llava_official_executes_nothing_that_is_pickled(llava, tmp_path):
    python, checkpoint = llava
    shard = checkpoint / "pytorch_model-00001-of-00002.bin"
    content = shard.read_bytes()
    try:
        for old in (False, True):
            hostile = {"model.norm.weight": torch.ones(WORDS), "x": Payload(str(tmp_path / "executed"))}
            torch.save(hostile, shard, _use_new_zipfile_serialization=not old)
            log = extract(python, checkpoint, "llava@official", D, tmp_path, expect=1)
            assert "holds more than tensors" in log
            assert not (tmp_path / "executed").exists()
        pickle.loads(pickle.dumps(Payload(str(tmp_path / "executed"))))
        assert (tmp_path / "executed").exists()  # it would have been seen
    finally:
        shard.write_bytes(content)


@pytest.mark.full
def test_conceptclip_runs_the_code_of_its_own_revision(conceptclip, tmp_path):
    python, checkpoint = conceptclip
    official = extract(python, checkpoint, "conceptclip@official", SMALL["embed_dim"], tmp_path)
    weights = {"model.safetensors": checkpoint / "model.safetensors"}
    close("conceptclip@official", native("conceptclip", weights, SMALL["embed_dim"], SMALL), official)


@pytest.mark.full
def test_conceptclip_code_that_was_not_fetched_is_refused(conceptclip, tmp_path):
    python, checkpoint = conceptclip
    module = checkpoint / "modeling_conceptclip.py"
    moved = module.rename(tmp_path / module.name)
    try:
        log = extract(python, checkpoint, "conceptclip@official", SMALL["embed_dim"], tmp_path, expect=1)
        assert "names code in modeling_conceptclip.py, which is not among the fetched files" in log
    finally:
        moved.rename(module)
