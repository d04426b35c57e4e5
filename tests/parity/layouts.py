"""Published names of one and the same tower: what a library calls the tensors of another.

Used on the official side of parity tests only: the card's loader never sees these tables.
"""

from __future__ import annotations

import re
from typing import Any

import timm
import torch

State = dict[str, torch.Tensor]

CLIP = {  # OpenAI and open_clip -> transformers
    r"^class_embedding$": "embeddings.class_embedding",
    r"^conv1\.": "embeddings.patch_embedding.",
    r"^positional_embedding$": "embeddings.position_embedding.weight",
    r"^ln_pre\.": "pre_layrnorm.",
    r"^ln_post\.": "post_layernorm.",
    r"^transformer\.resblocks\.": "encoder.layers.",
    r"\.ln_(\d)\.": r".layer_norm\1.",
    r"\.attn\.out_proj\.": ".self_attn.out_proj.",
    r"\.c_fc\.": ".fc1.",
    r"\.c_proj\.": ".fc2.",
}
SIGLIP = {  # timm -> transformers
    r"^pos_embed$": "embeddings.position_embedding.weight",
    r"^patch_embed\.proj\.": "embeddings.patch_embedding.",
    r"^blocks\.(\d+)\.norm(\d)\.": r"encoder.layers.\1.layer_norm\2.",
    r"^blocks\.(\d+)\.attn\.proj\.": r"encoder.layers.\1.self_attn.out_proj.",
    r"^blocks\.(\d+)\.attn\.": r"encoder.layers.\1.self_attn.",
    r"^blocks\.": "encoder.layers.",
    r"^norm\.": "post_layernorm.",
    r"^attn_pool\.latent$": "head.probe",
    r"^attn_pool\.proj\.": "head.attention.out_proj.",
    r"^attn_pool\.norm\.": "head.layernorm.",
    r"^attn_pool\.mlp\.": "head.mlp.",
}
VIT = {  # timm -> transformers 5
    r"^cls_token$": "embeddings.cls_token",
    r"^pos_embed$": "embeddings.position_embeddings",
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
    r"^blocks\.(\d+)\.norm1\.": r"layers.\1.layernorm_before.",
    r"^blocks\.(\d+)\.norm2\.": r"layers.\1.layernorm_after.",
    r"^blocks\.(\d+)\.attn\.proj\.": r"layers.\1.attention.o_proj.",
    r"^blocks\.(\d+)\.attn\.": r"layers.\1.attention.",
    r"^blocks\.": "layers.",
    r"^norm\.": "layernorm.",
}
TORCHVISION_VIT = {  # torchvision -> timm
    r"^class_token$": "cls_token",
    r"^conv_proj\.": "patch_embed.proj.",
    r"^encoder\.pos_embedding$": "pos_embed",
    r"^encoder\.ln\.": "norm.",
    r"^encoder\.layers\.encoder_layer_": "blocks.",
    r"\.ln_(\d)\.": r".norm\1.",
    r"\.self_attention\.in_proj_": ".attn.qkv.",
    r"\.self_attention\.out_proj\.": ".attn.proj.",
    r"\.mlp\.0\.": ".mlp.fc1.",
    r"\.mlp\.3\.": ".mlp.fc2.",
    r"^heads\.head\.": "head.",
}
DINOV2 = {  # timm -> facebook/dinov2-* as published, the names of transformers 4
    r"^cls_token$": "embeddings.cls_token",
    r"^pos_embed$": "embeddings.position_embeddings",
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
    r"^norm\.": "layernorm.",
    r"^blocks\.": "encoder.layer.",
    r"\.ls(\d)\.gamma$": r".layer_scale\1.lambda1",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.attn\.q_proj\.": ".attention.attention.query.",
    r"\.attn\.k_proj\.": ".attention.attention.key.",
    r"\.attn\.v_proj\.": ".attention.attention.value.",
}
GIANT = {r"\.mlp\.fc1\.": ".mlp.weights_in.", r"\.mlp\.fc2\.": ".mlp.weights_out."}  # its gated layers


def renamed(state: State, *tables: dict[str, str]) -> State:
    """The state under the names that the tables make, joint query, key and value weights apart."""
    result: State = {}
    for key, tensor in split_qkv(state).items():
        for table in tables:
            for pattern, replacement in table.items():
                key = re.sub(pattern, replacement, key)
        result[key] = tensor
    return result


def split_qkv(state: State) -> State:
    """``qkv.weight`` and ``in_proj_weight`` (3d, d) as three tensors q_proj, k_proj, v_proj."""
    result: State = {}
    for key, tensor in state.items():
        joint = re.fullmatch(r"(.*)\.(?:attn\.qkv\.|attn\.in_proj_)(weight|bias)", key)
        if joint is None:
            result[key] = tensor
            continue
        for name, part in zip("qkv", tensor.chunk(3), strict=True):
            result[f"{joint[1]}.attn.{name}_proj.{joint[2]}"] = part
    return result


def clip_as_transformers(visual: State) -> State:
    """OpenAI's image tower (names without ``visual.``) as CLIPVisionModelWithProjection has it."""
    tower = renamed({k: v for k, v in visual.items() if k != "proj"}, CLIP)
    tower = {"vision_model." + re.sub(r"\.attn\.", ".self_attn.", k): v for k, v in tower.items()}
    return tower | {"visual_projection.weight": visual["proj"].T}


def siglip_as_transformers(trunk: State) -> State:
    """timm's SigLIP trunk as SiglipVisionModel has it, without any prefix."""
    state = dict(trunk)
    for part in ("weight", "bias"):
        query, both = state.pop(f"attn_pool.q.{part}"), state.pop(f"attn_pool.kv.{part}")
        state[f"head.attention.in_proj_{part}"] = torch.cat([query, both])
    state["pos_embed"] = state["pos_embed"][0]
    return renamed(state, SIGLIP)


def small_timm_vit(arch: str, options: dict[str, Any], **more: Any) -> Any:
    """timm's vision transformer, without classifier, at the size that a card's ``options`` name."""
    return timm.create_model(
        arch,
        img_size=options["image_size"],
        embed_dim=options["hidden_size"],
        depth=options["num_hidden_layers"],
        num_heads=options["num_attention_heads"],
        num_classes=0,
        **more,
    )
