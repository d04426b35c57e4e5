"""What the chat models' parity tests share: a narrow language model, layouts of whole checkpoints."""

import transformers

from tests.parity.harness import randomised
from tests.parity.layouts import renamed

LIBRARY = f"transformers {transformers.__version__}"
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
# A language model that is narrow in all but what the projector must fit.
LANGUAGE = {
    "hidden_size": 4096,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 40,
    "pad_token_id": 0,
}

# Names in memory -> names in the three kinds of files that are in use.
HUB = {
    r"^model\.vision_tower\.": "vision_tower.vision_model.",
    r"^model\.multi_modal_projector\.": "multi_modal_projector.",
    r"^model\.language_model\.": "language_model.model.",
    r"^lm_head\.": "language_model.lm_head.",
}
HUB_SINCE_4_52 = {r"^model\.vision_tower\.": "model.vision_tower.vision_model."}
ORIGINAL = {
    r"^model\.vision_tower\.": "model.vision_tower.vision_tower.vision_model.",
    r"^model\.multi_modal_projector\.linear_1\.": "model.mm_projector.0.",
    r"^model\.multi_modal_projector\.linear_2\.": "model.mm_projector.2.",
    r"^model\.language_model\.": "model.",
}


def rounded(module):
    """Random weights that bfloat16 holds exactly, as the checkpoints are published in it."""
    randomised(module)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.bfloat16())
    return module


def published(module, layout):
    return {k: v.bfloat16() for k, v in renamed(module.state_dict(), layout).items()}
