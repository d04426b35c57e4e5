"""``model@part`` is an ordinary card: a feature, or another way to run the model."""

import pytest
import yaml

from discern import preflight
from discern.config import load_study
from discern.errors import DiscernError
from discern.plan import Plan
from discern.registry import Registry

CARD = {
    "name": "tower",
    "title": "Tower",
    "group": "non_vlm",
    "weights": {"kind": "hub", "repo": "a/b", "revision": "0" * 40, "files": ["model.safetensors"]},
    "loader": {"route": "timm", "arch": "resnet10t", "options": {"num_classes": 0}, "prefix": "visual."},
    "preprocess": {"resize": "squash", "size": 64, "mean": [0.5, 0.5, 0.5]},
    "features": [
        {"name": "pooled", "d": 512},
        {
            "name": "wide", "d": 2048, "output": "all",
            "loader": {"prefix": ["visual.", "head."]}, "preprocess": {"size": 128},
        },
    ],
    "variants": {
        "twin": {"environment": "timm06"},
        "large": {
            "weights": {"kind": "manual", "place": "large.pt"},
            "loader": {"arch": "resnet18", "options": {"zero": 1}},
            "features": [{"name": "pooled", "d": 999}, {"name": "deep", "d": 5}],
        },
    },
    "params": 4890384,
    "licence": "MIT",
}  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    def make(**changes):
        folder = tmp_path / "registry" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tower.yaml").write_text(yaml.safe_dump(CARD | changes, sort_keys=False))
        return Registry([tmp_path / "registry"])

    return make


def test_a_feature_is_a_card_with_that_feature_alone(registry):
    card = registry().models["tower@wide"]
    assert (card.name, card.title) == ("tower@wide", "Tower [wide]")
    assert [(f.name, f.d, f.output) for f in card.features] == [("wide", 2048, "all")]
    assert card.loader.prefixes == ["visual.", "head."]
    assert card.loader.options == {"num_classes": 0}
    assert (card.transform.size, card.transform.mean) == (128, [0.5, 0.5, 0.5])
    assert card.params is None
    assert not card.variants


def test_a_variant_changes_what_it_names(registry):
    models = registry().models
    large = models["tower@large"]
    assert (large.loader.route, large.loader.arch, large.loader.options) == ("timm", "resnet18", {"zero": 1})
    assert large.weights.kind == "manual"
    assert large.feature.d == 999
    assert models["tower@large@deep"].feature.d == 5
    assert models["tower@twin"].environment == "timm06"
    assert models["tower@twin"].feature.d == 512
    assert models["tower"].environment == "torch"


def test_weights_are_shared_unless_a_variant_brings_its_own(registry):
    models = registry().models
    owners = {name: models.owner(name) for name in models.selectable()}
    assert owners == {
        "tower": "tower",
        "tower@pooled": "tower",
        "tower@wide": "tower",
        "tower@twin": "tower",
        "tower@large": "tower@large",
    }
    assert models.owner("tower@large@deep") == "tower@large"
    # What is fetched serves every reading.
    assert models["tower"].wanted_prefixes() == ["head.", "visual."]


def test_the_default_feature_and_its_name_give_the_same_features(registry):
    models = registry().models
    a, b = models["tower"].extraction_spec(), models["tower@pooled"].extraction_spec()
    assert a.pop("name") != b.pop("name")
    assert a == b


def test_unknown_parts_name_the_known_ones(registry):
    models = registry().models
    with pytest.raises(DiscernError, match=r"no feature or variant 'wyde'; did you mean 'wide'(.|\n)*large"):
        models["tower@wyde"]
    assert "tower@wyde" not in models
    assert "tower@wide" in models


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"twin": {"enviroment": "x"}}}, r"'twin'.*enviroment"),
        ({"variants": {"pooled": {"environment": "x"}}}, "named twice: pooled"),
        ({"features": [{"name": "a", "d": 1, "loader": {"pefix": "x"}}]}, r"'a'.*pefix"),
        ({"preprocess": None}, "either `preprocess`"),
        ({"remote_code": True, "weights": {"kind": "none"}}, "pinned revision"),
    ],
)
def test_mistakes_in_parts_are_mistakes_of_the_card(registry, changes, message):
    with pytest.raises(DiscernError, match=message):
        registry(**changes).models["tower"]


def test_every_shipped_part_is_a_card():
    models = Registry(["registry"]).models
    for name in models.selectable():
        card = models[name]
        assert card.name == name
        for feature in card.features:
            assert models[f"{name}@{feature.name}"].feature == feature.model_copy(
                update={"loader": {}, "preprocess": {}}
            )


def test_a_study_lists_parts_and_a_wrong_one_is_refused_with_its_place():
    content = {"study": "s", "datasets": ["brain_mr"], "models": ["biomedclip", "biomedclip@trunk_cls"]}
    study = load_study(content)
    plan = Plan(study)
    assert plan.expand("{model}/{dataset}") == ["biomedclip/brain_mr", "biomedclip@trunk_cls/brain_mr"]
    assert plan.fingerprint("biomedclip") != plan.fingerprint("biomedclip@trunk_cls")
    preflight.check_cards(study, plan.registry)
    with pytest.raises(
        DiscernError, match=r"models\[1\]: model 'biomedclip': has no feature or variant 'cls'"
    ):
        load_study(content | {"models": ["uni", "biomedclip@cls"]})
