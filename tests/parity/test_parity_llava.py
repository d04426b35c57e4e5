"""LLaVA-type chat models: their image side from checkpoints of the whole model."""

import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch
import transformers
from PIL import Image
from torch.nn import functional

from discern.analysis.identical import THRESHOLD
from discern.encoders.base import load_encoder
from discern.encoders.networks.llava import build
from discern.encoders.preprocess import apply
from discern.errors import DiscernError
from tests.parity.chat_models import (
    HUB,
    HUB_SINCE_4_52,
    LANGUAGE,
    LIBRARY,
    ORIGINAL,
    SMALL,
    published,
    rounded,
)
from tests.parity.harness import (
    CARDS,
    Case,
    Official,
    check,
    photographs,
    randomised,
    relative_difference,
    shrunk,
    write_shards,
)

SMALLER = SMALL | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 1}  # for fourteen passes
TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
LLAVA = f"{LIBRARY} LlavaForConditionalGeneration"


def vision(options):
    fields = {k: v for k, v in options.items() if k not in ("projector", "scales")}
    return transformers.CLIPVisionConfig(**TOWER | fields, hidden_act="quick_gelu")


def llava_model(options, text=transformers.LlamaConfig, layer=-2):
    config = transformers.LlavaConfig(
        vision_config=vision(options),
        text_config=text(**LANGUAGE),
        vision_feature_layer=layer,
        image_token_index=39,
    )
    return rounded(transformers.LlavaForConditionalGeneration(config))


def patches(tower, pictures):
    return tower(pictures, output_hidden_states=True).hidden_states[-2][:, 1:]


def projected(module, pictures):
    output = module.get_image_features(
        pixel_values=pictures, vision_feature_layer=-2, vision_feature_select_strategy="default"
    )
    return torch.stack(list(output.pooler_output)).mean(1)


def padded(size=336):
    processor = transformers.LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    return lambda image: processor(image)["pixel_values"][0]


def llava(layout, text=transformers.LlamaConfig):
    def official(options):
        module = llava_model(options, text)
        tower = module.model.vision_tower
        return Official(
            state=published(module, layout),
            features={
                "tower_patch_mean": lambda x: patches(tower, x).mean(1),
                "projector_patch_mean": lambda x: projected(module, x),
                "tower_pooled_cls": lambda x: tower(x).pooler_output,
            },
            transform=padded(),
        )

    return official


@pytest.mark.parametrize("layout", [HUB, HUB_SINCE_4_52, ORIGINAL], ids=["hub", "since 4.52", "original"])
def test_llava(layout, tmp_path):
    check(Case("llava", llava(layout), LLAVA, shrink=SMALL, shards=3), tmp_path)


def test_llava_med(tmp_path):
    side = llava(ORIGINAL, transformers.MistralConfig)
    check(Case("llava_med", side, LLAVA, shrink=SMALL, shards=4), tmp_path)


def test_what_transformers_saves_today_loads(tmp_path):
    """The library's own writer decides the names; shards are so small that the tower is spread."""
    module = llava_model(SMALL)
    module.bfloat16().save_pretrained(tmp_path, max_shard_size="200KB")
    weights = {f.name: f for f in tmp_path.glob("model*")}
    assert len(weights) > 4
    card = CARDS["llava@projector_patch_mean"]
    spec = shrunk(card, Case(card.name, llava(HUB), LLAVA, shrink=SMALL))
    pictures = photographs(card.transform)
    reread = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    theirs = projected(reread, torch.from_numpy(pictures)).numpy()
    assert relative_difference(load_encoder(spec, weights, "cpu").encode(pictures), theirs) < 1e-4


# ---------------------------------------------------------------------------- OpenAI's own file


def clip(features):
    def official(options):
        config = transformers.CLIPConfig(
            vision_config=vision(options).to_dict(),
            text_config={**SMALL, "num_hidden_layers": 1, "vocab_size": 50},
            projection_dim=16,
        )
        module = randomised(transformers.CLIPModel(config))
        tower = module.vision_model
        known = {
            "tower_patch_mean": lambda x: patches(tower, x).mean(1),
            "tower_pooled_cls": lambda x: tower(x).pooler_output,
            "s2_tower_patch_mean": lambda x: multi_scale(tower, x).mean(1),
        }
        return Official(
            state=dict(module.state_dict()),
            features={name: known[name] for name in features},
            transform=padded(1008 if "s2_tower_patch_mean" in features else 336),
        )

    return official


@pytest.mark.parametrize("model", ["llava", "llava_med"])
def test_stock_clip(model, tmp_path):
    side = clip(["tower_patch_mean", "tower_pooled_cls"])
    name = f"{model}@stock_clip"
    check(Case(name, side, f"{LIBRARY} CLIPModel", shrink=SMALL), tmp_path)


# ---------------------------------------------------------------------------- LLaVA 1.6


def test_llava_1_6(tmp_path):
    def official(options):
        config = transformers.LlavaNextConfig(
            vision_config=vision(options), text_config=transformers.LlamaConfig(**LANGUAGE)
        )
        module = rounded(transformers.LlavaNextForConditionalGeneration(config))
        tower, project = module.model.vision_tower, module.model.multi_modal_projector
        processor = transformers.LlavaNextImageProcessorPil(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        )
        return Official(
            state=published(module, HUB | {r"^model\.image_newline": "image_newline"}),
            features={
                "tower_patch_mean": lambda x: patches(tower, x).mean(1),
                "projector_patch_mean": lambda x: project(patches(tower, x)).mean(1),
                "tower_pooled_cls": lambda x: tower(x).pooler_output,
            },
            # The first of the views is the whole picture, the others are tiles.
            transform=lambda image: processor(image)["pixel_values"][0][0],
        )

    against = f"{LIBRARY} LlavaNextForConditionalGeneration"
    check(Case("llava@v1_6", official, against, shrink=SMALL, shards=3), tmp_path)


# ---------------------------------------------------------------------------- several scales


def multi_scale(tower, pictures, scales=(336, 672, 1008), size=336):
    """Tokens of every scale as in the published procedure: one batch of tiles, merged, pooled, joined."""
    grids = []
    for scale in scales:
        k = scale // size
        large = functional.interpolate(pictures, size=scale, mode="bicubic")
        b, c = large.shape[:2]
        tiles = large.reshape(b, c, k, size, k, size).permute(2, 4, 0, 1, 3, 5).reshape(-1, c, size, size)
        tokens = patches(tower, tiles)
        side = round(tokens.shape[1] ** 0.5)
        maps = tokens.transpose(1, 2).reshape(k, k, b, -1, side, side)
        merged = maps.permute(2, 3, 0, 4, 1, 5).reshape(b, -1, k * side, k * side)
        grids.append(functional.interpolate(merged, size=grids[0].shape[-1] if grids else side, mode="area"))
    return torch.cat(grids, dim=1).flatten(2).transpose(1, 2)


def test_llava_med_pp(tmp_path):
    def official(options):
        # Three layers named together make the library's projector as wide as three scales.
        module = llava_model(options, layer=[-2, -2, -2])
        tower, project = module.model.vision_tower, module.model.multi_modal_projector
        return Official(
            state=published(module, ORIGINAL),
            features={
                "s2_tower_patch_mean": lambda x: multi_scale(tower, x).mean(1),
                "s2_projector_patch_mean": lambda x: project(multi_scale(tower, x)).mean(1),
                "tower_patch_mean": lambda x: patches(tower, x).mean(1),
            },
            transform=padded(1008),
        )

    check(Case("llava_med_pp", official, LLAVA, shrink=SMALLER, shards=4), tmp_path)


def test_llava_med_pp_at_one_scale(tmp_path):
    def official(options):
        side = llava(ORIGINAL)(options)
        del side.features["tower_pooled_cls"]
        return side

    name = "llava_med_pp@single_scale"
    check(Case(name, official, LLAVA, shrink=SMALL, shards=4), tmp_path)


def test_llava_med_pp_on_stock_clip(tmp_path):
    side = clip(["s2_tower_patch_mean"])
    name = "llava_med_pp@stock_clip"
    check(Case(name, side, f"{LIBRARY} CLIPModel", shrink=SMALLER), tmp_path)


# ---------------------------------------------------------------------------- full size


@pytest.mark.full
def test_llava_full_size(tmp_path):
    check(Case("llava", llava(HUB), LLAVA, shards=3), tmp_path)


LOAD = """
import sys
from pathlib import Path
from discern.analysis.identical import THRESHOLD
from discern.encoders.base import load_encoder
from discern.registry import Registry
files = {f.name: f for f in Path(sys.argv[1]).iterdir()}
encoder = load_encoder(Registry().models["llava_med"].extraction_spec(), files, "cpu")
# Not getrusage: its peak begins with that of the process that started this one.
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.full
def test_a_tower_among_seven_billion_parameters_needs_three_gibibytes(tmp_path):
    """The language model's 14 GB stand in the files as holes: there, but of no weight on the disk."""
    with torch.device("meta"):
        tower = transformers.CLIPVisionModel(vision({}))
    prefix = "model.vision_tower.vision_tower.vision_model."
    state = {
        prefix + k: torch.full(v.shape, 0.01, dtype=torch.bfloat16) for k, v in tower.state_dict().items()
    }
    write_shards(state, tmp_path, 2)
    for i in range(3):
        write_hole(tmp_path / f"hole-{i}.safetensors", f"model.layers.{i}.weight", 4_800_000_000)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) > 14e9
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / 2**20 < 3


def write_hole(path, name, size):
    """A safetensors file of one bfloat16 tensor of ``size`` bytes, all zeros, without writing them."""
    header = f'{{"{name}":{{"dtype":"BF16","shape":[{size // 2}],"data_offsets":[0,{size}]}}}}'.encode()
    with path.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + size)


def test_a_picture_of_another_size_than_the_largest_scale_is_refused():
    module = build(scales=[28, 56], image_size=28, **SMALL)
    with pytest.raises(DiscernError, match="28 pixels"):
        module.s2_tower_patch_mean(torch.from_numpy(np.zeros((1, 3, 28, 28), np.float32)))


FIVE = ("astronaut", "camera", "chelsea", "coffee", "coins")


@pytest.mark.full
def test_rounding_of_the_tower_is_told_from_other_weights():
    """The threshold of ``discern.analysis.identical`` on the network that it is about, at full size.

    docs/protocol.md prints these figures; ``pytest -s`` shows them.
    """
    shown = [Image.fromarray(getattr(skimage.data, name)()) for name in FIVE]
    pictures = torch.from_numpy(np.stack([apply(p, CARDS["llava"].transform) for p in shown]))
    torch.manual_seed(0)
    tower, other = build().eval(), build().eval()
    state = {k: v.clone() for k, v in tower.state_dict().items()}
    features = tower.tower_patch_mean(pictures)
    spread = (features - features.mean(0)).norm()

    def difference(changed):
        tower.load_state_dict({k: changed(v) for k, v in state.items()})
        return float((tower.tower_patch_mean(pictures) - features).norm() / spread)

    figures = {
        "float16": difference(lambda v: v.half().float()),
        "bfloat16": difference(lambda v: v.bfloat16().float()),
        "1 % noise": difference(lambda v: v * (1 + 0.01 * torch.randn(v.shape))),
        "another seed": float((other.tower_patch_mean(pictures) - features).norm() / spread),
    }
    print(figures)
    assert figures["float16"] < figures["bfloat16"] < THRESHOLD / 3
    assert figures["another seed"] > 10 * THRESHOLD
