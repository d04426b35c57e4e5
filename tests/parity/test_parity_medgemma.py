"""MedGemma: its image side from checkpoints of the whole model."""

import pytest
import transformers

from tests.parity.chat_models import HUB, HUB_SINCE_4_52, LANGUAGE, LIBRARY, SMALL, published, rounded
from tests.parity.harness import Case, Official, check

GEMMA = f"{LIBRARY} Gemma3ForConditionalGeneration"


def gemma(layout):
    def official(options):
        fields = {k: v for k, v in options.items() if k != "projector"}
        tower = {"image_size": 896, "patch_size": 14, "vision_use_head": False} | fields
        text = transformers.Gemma3TextConfig(**LANGUAGE | {"hidden_size": 2560})
        config = transformers.Gemma3Config(
            vision_config=transformers.SiglipVisionConfig(**tower),
            text_config=text,
            mm_tokens_per_image=256,
            image_token_index=39,
        )
        module = rounded(transformers.Gemma3ForConditionalGeneration(config))
        processor = transformers.Gemma3ImageProcessorPil(
            size={"height": 896, "width": 896}, do_pan_and_scan=False
        )
        state = {k: v for k, v in published(module, layout).items() if "lm_head" not in k}  # tied
        return Official(
            state=state,
            features={
                "tower_patch_mean": lambda x: module.model.vision_tower(x).last_hidden_state.mean(1),
                "projector_mean": lambda x: module.get_image_features(pixel_values=x).pooler_output.mean(1),
            },
            transform=lambda image: processor(image)["pixel_values"][0],
        )

    return official


@pytest.mark.parametrize(
    ("model", "layout"),
    [("medgemma", HUB), ("medgemma", HUB_SINCE_4_52), ("medgemma@instruction_tuned", HUB)],
)
def test_medgemma(model, layout, tmp_path):
    small = SMALL | {"num_hidden_layers": 1}  # 4096 tokens
    check(Case(model, gemma(layout), GEMMA, shrink=small, shards=2), tmp_path)
