"""Small checkpoints in the layouts that the authors' own runtimes read, written without those runtimes."""

import json
import subprocess

import torch
from safetensors.torch import save_file

from discern.contracts import MANIFEST, write_table
from discern.encoders.record import write_record
from discern.files import sha256_file
from tests.parity.harness import images, random_tensor

#: The real tower in small: 336 pixels and patches of 14, so that the card's transform is the real one.
TOWER = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
WORDS = 48  # width of the language model, so of the projector's output

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

#: Trained inside the environment, as the authors' loader wants a tokenizer and no other package writes one.
TOKENIZER = """
import sys, sentencepiece
text = [f"a picture of organ {i}, question {i * i}, answer {i % 7} of the patient" for i in range(200)]
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text), model_prefix=sys.argv[1], vocab_size=90, hard_vocab_limit=False,
    minloglevel=2)
print(sentencepiece.SentencePieceProcessor(model_file=sys.argv[1] + ".model").get_piece_size())
"""


def tower_state(
    seed, layers=TOWER["num_hidden_layers"], d=TOWER["hidden_size"], mlp=TOWER["intermediate_size"]
):
    """A CLIP vision tower under its published names, the position buffer of old releases among them."""
    norm = {"weight": (d,), "bias": (d,)}
    block = {
        **{f"self_attn.{n}_proj.{k}": s for n in "kvq" for k, s in (("weight", (d, d)), ("bias", (d,)))},
        "self_attn.out_proj.weight": (d, d), "self_attn.out_proj.bias": (d,),
        "mlp.fc1.weight": (mlp, d), "mlp.fc1.bias": (mlp,), "mlp.fc2.weight": (d, mlp), "mlp.fc2.bias": (d,),
        **{f"layer_norm{i}.{k}": s for i in (1, 2) for k, s in norm.items()},
    }  # fmt: skip
    shapes = {
        "embeddings.class_embedding": (d,),
        "embeddings.patch_embedding.weight": (d, 3, 14, 14),
        "embeddings.position_embedding.weight": (577, d),
        **{f"{n}.{k}": s for n in ("pre_layrnorm", "post_layernorm") for k, s in norm.items()},
        **{f"encoder.layers.{i}.{k}": s for i in range(layers) for k, s in block.items()},
    }
    generator = torch.Generator().manual_seed(seed)
    state = {f"vision_model.{k}": random_tensor(k, s, generator) for k, s in shapes.items()}
    return state | {"vision_model.embeddings.position_ids": torch.arange(577)[None]}


def language_state(words, layers=2, mlp=80, seed=7):
    """A Llama or Mistral language model of two layers."""
    d = WORDS
    block = {f"self_attn.{n}_proj.weight": (d, d) for n in "qkvo"}
    block |= {
        "mlp.gate_proj.weight": (mlp, d),
        "mlp.up_proj.weight": (mlp, d),
        "mlp.down_proj.weight": (d, mlp),
    }
    block |= {"input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,)}
    shapes = {f"model.layers.{i}.{k}": s for i in range(layers) for k, s in block.items()}
    shapes |= {
        "model.embed_tokens.weight": (words, d),
        "model.norm.weight": (d,),
        "lm_head.weight": (words, d),
    }
    generator = torch.Generator().manual_seed(seed)
    return {k: random_tensor(k, s, generator) for k, s in shapes.items()}


def projector_state(seed=8):
    """The two-layer projector in the authors' layout."""
    shapes = {"0.weight": (WORDS, TOWER["hidden_size"]), "0.bias": (WORDS,)}
    shapes |= {"2.weight": (WORDS, WORDS), "2.bias": (WORDS,)}
    generator = torch.Generator().manual_seed(seed)
    return {f"model.mm_projector.{k}": random_tensor(k, s, generator) for k, s in shapes.items()}


def write_json(file, content):
    file.write_text(json.dumps(content))


def write_llava(folder, python, kind, tower=None):
    """A checkpoint folder of ``kind`` llava_llama (.bin shards) or llava_mistral (safetensors).

    ``tower``: state of a vision tower to be stored in the shards, as LLaVA-Med's are. The stock tower
    that the configuration names lies in the folder ``vision_tower`` with the layout of the hub's.
    """
    folder.mkdir()
    done = subprocess.run(
        [python, "-c", TOKENIZER, str(folder / "tokenizer")], text=True, capture_output=True, check=True
    )
    words = int(done.stdout)
    (folder / "tokenizer.vocab").unlink()
    name = kind.removeprefix("llava_")
    config = {
        "architectures": [f"Llava{name.capitalize()}ForCausalLM"], "model_type": kind,
        "hidden_size": WORDS, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": words, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "image_aspect_ratio": "pad", "mm_hidden_size": TOWER["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False, "mm_use_im_start_end": False, "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2, "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_mm_proj": True,
    }  # fmt: skip
    # The flag that the LLaVA authors' newer code obeys and LLaVA-Med's does not know.
    config |= {"unfreeze_mm_vision_tower": tower is not None}
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", tokens | {"tokenizer_class": "LlamaTokenizer"})
    write_json(folder / "special_tokens_map.json", tokens)
    state = language_state(words) | projector_state()
    state |= {f"model.vision_tower.vision_tower.{k}": v for k, v in (tower or {}).items() if "_ids" not in k}
    write_shards(folder, state, torch.bfloat16 if kind == "llava_mistral" else torch.float16)
    write_stock(folder / "vision_tower", tower_state(seed=1))


def write_shards(folder, state, dtype):
    """Two shards and their index: safetensors for bfloat16, torch zips for float16."""
    keys = list(state)
    head, tail = ("model", ".safetensors") if dtype == torch.bfloat16 else ("pytorch_model", ".bin")
    names = [f"{head}-0000{i}-of-00002{tail}" for i in (1, 2)]
    place = {key: names[i >= len(keys) // 2] for i, key in enumerate(keys)}
    for name in names:
        part = {k: state[k].to(dtype).contiguous() for k in keys if place[k] == name}
        if tail == ".bin":
            torch.save(part, folder / name)
        else:
            save_file(part, folder / name, metadata={"format": "pt"})
    index = f"{head}{tail}.index.json"
    write_json(folder / index, {"metadata": {"total_size": 1}, "weight_map": place})


def write_stock(folder, state):
    """The hub's CLIP: one torch zip with a text tower beside the vision tower, both configurations."""
    folder.mkdir()
    vision = TOWER | {"image_size": 336, "patch_size": 14, "hidden_act": "quick_gelu"}
    vision |= {"model_type": "clip_vision_model", "projection_dim": 32}
    config = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 32}
    write_json(folder / "config.json", config | {"vision_config": vision, "text_config": {}})
    resize = {"do_resize": True, "size": 336, "resample": 3, "do_center_crop": True, "crop_size": 336}
    norm = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
    write_json(
        folder / "preprocessor_config.json",
        resize | norm | {"feature_extractor_type": "CLIPFeatureExtractor"},
    )
    torch.save(
        state | {"logit_scale": torch.ones(()), "text_model.embeddings.x": torch.ones(2)},
        folder / "pytorch_model.bin",
    )


CONCEPTCLIP_MODEL = """
import timm
import torch
from transformers import PretrainedConfig, PreTrainedModel


class StandInConfig(PretrainedConfig):
    model_type = "conceptclip"

    def __init__(self, tower=None, **kwargs):
        super().__init__(**kwargs)
        self.tower = tower or {}


class Visual(torch.nn.Module):
    def __init__(self, options):
        super().__init__()
        self.trunk = timm.create_model("vit_so400m_patch14_siglip_384", num_classes=0, **options)


class ConceptCLIP(PreTrainedModel):
    config_class = StandInConfig

    def __init__(self, config):
        super().__init__(config)
        self.visual = Visual(config.tower)
        self.image_proj = torch.nn.Linear(2, 2)

    def encode_image(self, image):
        tokens = self.visual.trunk.forward_features(image)
        return self.visual.trunk.forward_head(tokens), tokens
"""

CONCEPTCLIP_PROCESSOR = """
from transformers import ProcessorMixin


class ConceptCLIPProcessor(ProcessorMixin):
    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "SiglipImageProcessor"
    tokenizer_class = ("BertTokenizer", "BertTokenizerFast")

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer)
"""


def write_conceptclip(folder, state, options):
    """A repository with code of its own: two modules, their configuration and the weights."""
    folder.mkdir()
    (folder / "modeling_conceptclip.py").write_text(CONCEPTCLIP_MODEL)
    (folder / "preprocessor_conceptclip.py").write_text(CONCEPTCLIP_PROCESSOR)
    # As saved from a copy of the hub's repository: this would fetch the code from its main branch.
    where = "JerrryNie/ConceptCLIP--modeling_conceptclip."
    auto = {"AutoConfig": where + "StandInConfig", "AutoModel": where + "ConceptCLIP"}
    write_json(folder / "config.json", {"model_type": "conceptclip", "tower": options, "auto_map": auto})
    pixels = {"do_resize": True, "size": {"height": 384, "width": 384}, "resample": 3, "do_rescale": True}
    pixels |= {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    pixels |= {"image_processor_type": "SiglipImageProcessor", "processor_class": "ConceptCLIPProcessor"}
    pixels |= {"auto_map": {"AutoProcessor": "preprocessor_conceptclip.ConceptCLIPProcessor"}}
    write_json(folder / "preprocessor_config.json", pixels)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    state = state | {"image_proj.weight": torch.ones(2, 2), "image_proj.bias": torch.ones(2)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def files_of(folder):
    """Name -> path of every file, as the record of fetched weights gives them."""
    return {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.is_file()}


def write_inputs(folder, checkpoint):
    """Manifest of two real pictures, and the record of the fetched files."""
    columns = {name: [] for name in MANIFEST.columns}
    for i, picture in enumerate(images()):
        path = folder / f"{i}.png"
        picture.save(path)
        row = {"image_id": f"image_{i}", "path": path.name, "sha256": sha256_file(path), "label": 0}
        row |= {"label_name": "a", "width": picture.width, "height": picture.height, "mode": "RGB"}
        for name, values in columns.items():
            values.append(row.get(name))
    about = {"dataset": "planted", "root": str(folder), "made": "", "decoding": {}}
    write_table(MANIFEST, folder / "manifest.parquet", columns, about)
    files = [f for name, f in files_of(checkpoint).items() if name != "fetched.json"]
    write_record("official", files, checkpoint / "fetched.json")
    return folder / "manifest.parquet", checkpoint / "fetched.json"
