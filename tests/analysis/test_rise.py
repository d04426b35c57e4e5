"""RISE finds what was planted: the one part of the picture that the classifier looks at."""

import numpy as np
import pytest
from PIL import Image

from discern.analysis.linear import Classifier
from discern.analysis.rise.explaining import area_mean, explain_cell, stored_size
from discern.analysis.rise.masks import draw_masks
from discern.analysis.rise.sampling import saliency_maps
from discern.analysis.rise.targets import score_target
from discern.config import RiseSettings
from discern.contracts import MANIFEST, PREDICTIONS, RISE, read_table, write_json, write_table
from discern.encoders import preprocess
from discern.encoders.base import load_encoder
from discern.errors import DiscernError
from discern.model_card import ModelCard

SIZE = 32
QUADRANT = np.zeros((SIZE, SIZE), bool)
QUADRANT[: SIZE // 2, SIZE // 2 :] = True


class LinearPixels:
    """A real encoder: the features are the means of the four quarters of the picture."""

    d = 4
    input_size = (SIZE, SIZE)
    device = "cpu"

    def encode(self, batch):
        self.largest = max(getattr(self, "largest", 0), len(batch))
        half = SIZE // 2
        quarters = batch.reshape(len(batch), -1, 2, half, 2, half).mean(axis=(1, 3, 5))
        return quarters.reshape(len(batch), 4).astype(np.float32)


def linear(coef, intercept):
    coef = np.asarray(coef, dtype=np.float64)
    return Classifier(
        np.zeros(coef.shape[1]),
        np.ones(coef.shape[1]),
        coef,
        np.asarray(intercept, dtype=np.float64),
        ["a", "b", "c"],
        "squared_hinge_ovr",
    )


def saliency_map(encoder, classifier, image, label, masks, estimator="plain", **options):
    return saliency_maps(encoder, classifier, image, masks, estimator, **options).maps[label]


@pytest.fixture
def bright():
    """A picture above the mean colour everywhere, so that hiding any part lowers its feature."""
    return np.random.default_rng(0).uniform(0.5, 1.5, (3, SIZE, SIZE)).astype(np.float32)


def test_heat_lies_on_the_only_quarter_that_matters(bright):
    classifier = linear([[0, 0, 0, 0], [0, 4, 0, 0], [0, -4, 0, 0]], [0, 0, 0])
    masks = draw_masks(600, 8, 0.5, (SIZE, SIZE), seed=0)
    found = score_target(saliency_map(LinearPixels(), classifier, bright, 1, masks), QUADRANT)
    assert found.hottest_in_target
    assert found.target_share > 0.9
    assert found.target_area == 0.25
    against = score_target(saliency_map(LinearPixels(), classifier, bright, 2, masks), QUADRANT)
    assert against.target_share == 0


def published_procedure(encoder, classifier, image, stack, p):
    """Petsiuk et al.: all masks stored at full size, scores of all, one product with the masks, / N / p."""
    scores = classifier.decision(encoder.encode(stack[:, None] * image))
    flat = scores.T @ stack.reshape(len(stack), -1).astype(np.float64)
    return flat.reshape(-1, *image.shape[1:]) / len(stack) / p


@pytest.mark.parametrize(("n_masks", "p"), [(37, 0.4), (256, 0.5)])
def test_maps_equal_the_published_procedure_on_the_same_masks(bright, n_masks, p):
    classifier = linear(np.random.default_rng(1).normal(size=(3, 4)), [0.5, -1, 2])
    masks = draw_masks(n_masks, 8, p, (SIZE, SIZE), seed=2)
    stack = np.empty((n_masks, SIZE, SIZE), np.float32)
    masks.fill(0, stack)
    expected = published_procedure(LinearPixels(), classifier, bright, stack, p)
    found = saliency_maps(LinearPixels(), classifier, bright, masks).maps
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_classifier_that_looks_at_nothing_gives_a_flat_map(bright):
    masks = draw_masks(50, 8, 0.5, (SIZE, SIZE), seed=0)
    found = saliency_map(LinearPixels(), linear(np.zeros((3, 4)), [0, 0, 0]), bright, 0, masks)
    np.testing.assert_array_equal(found, np.zeros((SIZE, SIZE)))


def test_centring_removes_a_constant_and_keeps_the_contrast(bright):
    """A large intercept is noise in the published sum and nothing in the centred one."""
    masks = draw_masks(200, 8, 0.5, (SIZE, SIZE), seed=0)
    coef = [[0, 0, 0, 0], [0, 4, 0, 0], [0, -4, 0, 0]]

    def share(intercept, estimator):
        classifier = linear(coef, [0, intercept, 0])
        found = saliency_map(LinearPixels(), classifier, bright, 1, masks, estimator)
        return found, score_target(found, QUADRANT).target_share

    without, with_constant = share(0, "centred"), share(50, "centred")
    np.testing.assert_allclose(with_constant[0] - 50, without[0], atol=1e-3)
    assert with_constant[1] > 0.9
    assert share(50, "plain")[1] < 0.9


def test_no_batch_is_larger_than_asked(bright):
    encoder = LinearPixels()
    masks = draw_masks(50, 8, 0.5, (SIZE, SIZE), seed=0)
    saliency_map(encoder, linear(np.ones((3, 4)), [0, 0, 0]), bright, 0, masks, batch_size=8)
    assert encoder.largest == 8


def test_area_mean_keeps_the_mean_and_counts_parts_of_pixels():
    picture = np.random.default_rng(0).normal(size=(10, 10))
    small = area_mean(picture, (5, 5))
    np.testing.assert_allclose(small, picture.reshape(5, 2, 5, 2).mean(axis=(1, 3)))
    assert area_mean(picture, (3, 3)).mean() == pytest.approx(picture.mean())
    np.testing.assert_allclose(area_mean(np.array([[0.0, 3, 6]] * 3), (2, 2))[0], [1, 5])


def test_stored_maps_keep_the_proportions():
    assert stored_size(56, (224, 224)) == (56, 56)
    assert stored_size(56, (32, 32)) == (32, 32)
    assert stored_size(56, (1520, 912)) == (56, 34)
    assert stored_size(56, (10, 2000)) == (1, 56)


def test_the_informative_part_of_a_portrait_picture_is_found():
    """An input that is not square, as Mammo-CLIP's: only the lower fifth counts."""
    size, part = (60, 24), np.zeros((60, 24), bool)
    part[48:] = True

    class LowerFifth(LinearPixels):
        d = 1
        input_size = size

        def encode(self, batch):
            return batch[:, 0, 48:].mean(axis=(1, 2))[:, None].astype(np.float32)

    picture = np.random.default_rng(1).uniform(0.5, 1, (3, *size)).astype(np.float32)
    masks = draw_masks(600, 8, 0.5, size, seed=0)
    looks = linear([[0.0], [4.0], [-4.0]], [0, 0, 0])
    found = saliency_map(LowerFifth(), looks, picture, 1, masks, "centred")
    assert found.shape == size
    assert score_target(found, part).target_share > 0.9


# ------------------------------------------------------------------- a whole cell, with a real card

CARD = ModelCard.model_validate(
    {
        "name": "tiny_pixels",
        "title": "Pixels",
        "group": "control",
        "weights": {"kind": "none"},
        "loader": {"route": "pixels"},
        "preprocess": {"resize": "squash", "size": SIZE, "channels": "grey", "interpolation": "box"},
        "features": [{"name": "pixels", "d": SIZE * SIZE}],
        "environment": "data",
        "licence": "none",
    }
)
SETTINGS = RiseSettings(n_masks=400, saliency_size=16, correct_per_class=2)


@pytest.fixture
def cell(tmp_path):
    """Six bright pictures with the informative quarter as mask, and a classifier of that quarter."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    names = [f"image_{i}" for i in range(6)]
    Image.fromarray(np.uint8(255 * np.kron(QUADRANT, np.ones((2, 2))))).save(tmp_path / "mask.png")
    for name in names:
        noise = rng.integers(120, 256, (2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    true = [0, 0, 0, 1, 1, 1]
    manifest = {
        "image_id": names,
        "path": [f"{name}.png" for name in names],
        "sha256": ["0"] * 6,
        "label": true,
        "label_name": ["ab"[label] for label in true],
        "group": [None] * 6,
        "volume": [None] * 6,
        "official_split": [None] * 6,
        "width": [2 * SIZE] * 6,
        "height": [2 * SIZE] * 6,
        "mode": ["RGB"] * 6,
        "cluster": [None] * 6,
        "mask_path": ["mask.png"] * 5 + [None],
        "boxes": [None] * 6,
    }
    about = {"dataset": "noise", "root": str(tmp_path), "made": "", "decoding": {}}
    about |= {"classes": ["a", "b"], "title": "Noise"}
    write_table(MANIFEST, tmp_path / "manifest.parquet", manifest, about)
    write_json(tmp_path / "weights.json", {"model": "tiny_pixels", "files": {}, "digest": ""})
    coef = np.where(QUADRANT, 5.0 / QUADRANT.sum(), 0.0).reshape(1, -1)  # binary: one row, for label 1
    tensors = {
        "mean.0": np.zeros(SIZE * SIZE),
        "scale.0": np.ones(SIZE * SIZE),
        "coef.0": coef,
        "intercept.0": np.zeros(1),
    }
    facts = {"classes": '["a", "b"]', "estimator": "squared_hinge_ovr"}
    save_file(tensors, tmp_path / "classifier.safetensors", facts)
    encoder = load_encoder(CARD.extraction_spec(), {}, "cpu")
    pixels = [
        preprocess.apply(Image.open(tmp_path / p).convert("RGB"), CARD.preprocess) for p in manifest["path"]
    ]
    positive = encoder.encode(np.stack(pixels)) @ coef[0]
    predictions = {
        "image_id": names,
        "fold": [0] * 6,
        "true": true,
        "predicted": [1] * 6,
        "decision": [[-f, f] for f in positive],
    }
    write_table(PREDICTIONS, tmp_path / "predictions.parquet", predictions, {})
    return tmp_path


def explain(cell, settings=SETTINGS, out="rise.parquet"):
    explain_cell(
        CARD.extraction_spec(),
        cell / "weights.json",
        cell / "manifest.parquet",
        cell / "predictions.parquet",
        cell / "classifier.safetensors",
        settings,
        cell / out,
        "cpu",
    )
    return read_table(RISE, cell / out)


def test_cell_keeps_its_contract_and_finds_the_quarter(cell):
    table, about = explain(cell)
    rows = table.to_pylist()
    assert [r["correct"] for r in rows] == [False, True, True]  # class 0 is never predicted
    assert about["saliency_size"] == [16, 16]
    assert (about["model"], about["dataset"], about["images"]) == ("tiny_pixels", "noise", 3)
    for row in rows:
        assert len(row["saliency"]) == len(row["saliency_error"]) == 16 * 16
        assert row["n_masks"] == 400
        assert 0 < row["standard_error"] < 0.9
        if row["image_id"] == "image_5":
            assert row["target_share"] is row["hottest_in_target"] is row["target_area"] is None
        else:
            assert row["target_area"] == 0.25
            assert row["hottest_in_target"]
            assert row["target_share"] > 0.9


def test_same_seed_same_maps(cell):
    maps = [
        explain(cell, SETTINGS.model_copy(update={"seed": seed}), f"{i}.parquet")[0]
        for i, seed in enumerate((4, 4, 5))
    ]
    assert maps[0].equals(maps[1])
    assert not maps[0].equals(maps[2])


def test_auto_stops_where_the_standard_error_is_small_enough(cell):
    few = {"n_masks": "auto", "max_masks": 2048, "estimator": "antithetic", "standard_error": 0.2}
    for row in explain(cell, SETTINGS.model_copy(update=few))[0].to_pylist():
        assert row["n_masks"] == 256
        assert row["standard_error"] <= 0.2
        assert row["target_share"] is None or row["target_share"] > 0.9
    all_of_them = few | {"estimator": "plain", "max_masks": 1000, "standard_error": 1e-6}
    table = explain(cell, SETTINGS.model_copy(update=all_of_them))[0]
    assert set(table["n_masks"].to_pylist()) == {1000}
    more = [few | {"estimator": "centred", "standard_error": level} for level in (0.4, 0.2)]
    used = [explain(cell, SETTINGS.model_copy(update=m))[0]["n_masks"].to_pylist() for m in more]
    assert all(a <= b for a, b in zip(*used, strict=True))
    assert used[0] != used[1]


def test_wrong_fold_and_missing_images_are_named(cell):
    with pytest.raises(DiscernError, match="no predictions of fold 3"):
        explain(cell, SETTINGS.model_copy(update={"fold": 3}))
    table, about = read_table(MANIFEST, cell / "manifest.parquet")
    write_table(MANIFEST, cell / "manifest.parquet", table.slice(5), about)
    with pytest.raises(DiscernError, match=r"not in the manifest, the first is 'image_\d'"):
        explain(cell)


def test_features_of_another_model_are_noticed(cell):
    table, about = read_table(PREDICTIONS, cell / "predictions.parquet")
    columns = table.to_pydict()
    columns["decision"] = [[-0.5, 0.5]] * 6
    write_table(PREDICTIONS, cell / "predictions.parquet", columns, about)
    with pytest.raises(DiscernError, match="do not belong together"):
        explain(cell)


def test_maps_beyond_half_precision_are_refused(cell):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(cell / "classifier.safetensors")
    tensors["coef.0"] *= 1e6
    save_file(
        tensors,
        cell / "classifier.safetensors",
        {"classes": '["a", "b"]', "estimator": "squared_hinge_ovr"},
    )
    table, about = read_table(PREDICTIONS, cell / "predictions.parquet")
    columns = table.to_pydict()
    columns["decision"] = [[1e6 * f for f in decision] for decision in columns["decision"]]
    write_table(PREDICTIONS, cell / "predictions.parquet", columns, about)
    with pytest.raises(DiscernError, match=r"image_\d: the saliency map cannot be stored as float16"):
        explain(cell)
