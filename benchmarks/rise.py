"""RISE: time per image beside other implementations, and the masks that each estimator needs."""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.side_by_side import Ratio, Table

N = 4096
N_TIMED = 32  # passes that are timed; all ways but our sums over masks are linear in their number
ROUNDS = 3
BATCH = 16
CLASSES = 8
#: torchvision and timm names; weights are random, which the time does not depend on.
NETWORKS = ["mobilenet_v3_small", "resnet18", "vit_tiny_patch16_224"]
#: Cells of the demonstration: model, data set, which hold-out images of its first fold.
CELLS = [("mobilenetv2", "ct_organs", (0, 7)), ("efficientnet_lite0", "overlay_presence", (0,))]
N_COMPARED = 512  # masks of every estimator
ESTIMATORS = ("plain", "centred", "control_variate", "antithetic")


def tables(quick: bool) -> list[Table]:
    """Times first, then errors; ``quick`` takes one network, few masks and one image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = _times(NETWORKS[:1] if quick else NETWORKS, 16 if quick else N_TIMED, 1 if quick else ROUNDS)
        return [times, _errors(CELLS[:1] if quick else CELLS, 128 if quick else N_COMPARED, quick)]


# ------------------------------------------------------------------------------------------------ time


def _network(name: str) -> Any:
    """A network that returns features, random weights, and d."""
    import timm
    import torch
    import torchvision

    torch.manual_seed(0)
    if hasattr(torchvision.models, name):
        module = getattr(torchvision.models, name)(weights=None)
        d = {"resnet18": 512, "mobilenet_v3_small": 576}[name]
        setattr(module, "fc" if name == "resnet18" else "classifier", torch.nn.Identity())
        return module.eval(), d
    module = timm.create_model(name, pretrained=False, num_classes=0)
    return module.eval(), module.num_features


def _ways(name: str, n: int) -> dict[str, Callable[[], object]]:
    """Every way to the map of one image, and the forward passes alone."""
    import copy

    import torch

    from benchmarks.rise_peers import Published, present
    from discern.analysis.linear import Classifier
    from discern.analysis.rise.estimators import estimate
    from discern.analysis.rise.masks import draw_masks
    from discern.analysis.rise.scoring import scorer_of
    from discern.encoders.base import Request
    from discern.encoders.torch_base import torch_encoder
    from discern.model_card import Loader, Preprocess

    module, d = _network(name)
    rng = np.random.default_rng(0)
    coef = rng.normal(size=(CLASSES, d))
    classifier = Classifier(
        np.zeros(d), np.ones(d), coef, np.zeros(CLASSES), tuple("abcdefgh"), "squared_hinge_ovr"
    )
    request = Request(name, Loader(route="timm"), Preprocess(resize="squash", size=224), "", d, {}, "cpu")
    plain = copy.deepcopy(module).requires_grad_(False)  # for the others, laid out as it was built
    encoder = torch_encoder(request, module)
    weights = torch.from_numpy(coef.T).float()
    picture = rng.normal(size=(3, 224, 224)).astype(np.float32)
    image = torch.from_numpy(picture[None])
    bank = draw_masks(N, 8, 0.5, (224, 224), seed=0)
    scorer = scorer_of(encoder, classifier, bank, BATCH)
    scorer.look_at(picture)
    drawn = rng.normal(size=(N, CLASSES))
    masks = np.empty((n, 224, 224), np.float32)
    bank.fill(0, masks)
    published = Published(masks, 0.5)
    layouts = {True: torch.channels_last, False: torch.contiguous_format}
    last = any(w.dim() == 4 and not w.is_contiguous() for w in encoder.module.parameters())
    batch = image.repeat(BATCH, 1, 1, 1).contiguous(memory_format=layouts[last])

    def scores(pictures: Any) -> Any:
        return plain(pictures) @ weights

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(n // BATCH):
                encoder.forward(batch)

    ways: dict[str, Callable[[], object]] = {"bare": bare, "ours": lambda: scorer.scores(0, n)}
    ways["sums"] = lambda: estimate(drawn, bank, "plain")
    ways["published"] = lambda: published(scores, image, n, 0)
    for package, way in present().items():
        ways[package] = lambda way=way: way(scores, image, n, 0)
    return ways


def _seconds(ways: dict[str, Callable[[], object]], n: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of the maps with N masks, in turn, from ``n`` passes; sums over masks as they are."""
    ways["bare"]()
    ways["ours"]()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            found[name].append((time.process_time() - started) * (1 if name == "sums" else N / n))
    found["ours"] = [a + b for a, b in zip(found["ours"], found["sums"], strict=True)]
    return found


def _ratio(a: list[float], b: list[float]) -> Ratio:
    found = [x / y for x, y in zip(a, b, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def _times(networks: list[str], n: int, rounds: int) -> Table:
    import torch

    from benchmarks.rise_peers import PACKAGES

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    others = ["published", *PACKAGES]
    rows = []
    for name in networks:
        seconds = _seconds(_ways(name, n), n, rounds)
        row = [_ratio(seconds[o], seconds["ours"]) if o in seconds else "not installed" for o in others]
        over = _ratio(seconds["ours"], seconds["bare"])
        rows.append((name, f"{over.median:.2f} ({over.low:.2f} to {over.high:.2f})", *row))
    torch.set_num_threads(threads)
    about = (
        f"CPU time of the maps of one image with {N:,} masks at 224 x 224 and {CLASSES} classes, one thread, "
        f"from {n} passes; ours with standard errors. Bare passes: the same network, batches and "
        "memory layout, nothing else. Published: the authors' procedure as we read their code, its masks "
        "already made and held at full size. Packages at their own batch size, making masks as they go; "
        "captum-rise makes the map of one class."
    )
    heads = ("network", "ours / bare passes", *(f"{o} / ours" for o in others))
    return Table("Time of a map at equal N", about, heads, rows)


# ----------------------------------------------------------------------------------------------- error


class Scored(NamedTuple):
    """One image: its name, the decision values of all classes under pairs of masks, the predicted class."""

    name: str
    scores: np.ndarray
    bank: Any
    label: int


def _scored(model: str, dataset: str, which: tuple[int, ...], n: int) -> Iterator[Scored]:
    """Images of a cell of the demonstration; nothing where it was not made."""
    from discern import paths
    from discern.analysis.linear import load_classifier
    from discern.analysis.rise.choice import read_fold
    from discern.analysis.rise.masks import draw_masks
    from discern.analysis.rise.scoring import scorer_of
    from discern.contracts import MANIFEST, read_table
    from discern.data.pictures.images import Pictures
    from discern.encoders import preprocess
    from discern.encoders.base import load_encoder
    from discern.encoders.record import read_weights
    from discern.errors import DiscernError
    from discern.model_card import Preprocess
    from discern.registry import Registry

    where = {"study": "demo", "dataset": dataset, "model": model, "protocol": "image"}
    try:
        classifier = load_classifier(paths.CLASSIFIER.format(**where), 0)
        chosen = sorted(read_fold(paths.PREDICTIONS.format(**where), 0), key=lambda c: c.image_id)
        table, about = read_table(MANIFEST, paths.MANIFEST.format(dataset=dataset))
        weights = read_weights(Path(paths.WEIGHTS_FETCHED.format(model=model)))
    except DiscernError:
        return
    rows = {row["image_id"]: row for row in table.to_pylist()}
    spec = Registry(["registry"]).models[model].extraction_spec()
    transform = Preprocess.model_validate(spec["preprocess"])
    bank = draw_masks(2 * n, 8, 0.5, transform.input_size, seed=1, pairs=True)
    scorer = scorer_of(load_encoder(spec, weights, "cpu"), classifier, bank)
    for index in which:
        picture = Pictures.of(about).open(rows[chosen[index].image_id]["path"])
        scorer.look_at(preprocess.apply(picture, transform))
        yield Scored(f"{model}, {dataset} {index}", scorer.scores(0, 2 * n), bank, chosen[index].predicted)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _compared(scores: np.ndarray, bank: Any, n: int) -> list[str]:
    """Noise of plain, saving of the others, and by how much plain and antithetic differ."""
    from discern.analysis.rise.estimators import estimate
    from discern.analysis.rise.masks import MaskBank

    # One of each pair: as many independent masks. The other pairs are for antithetic alone.
    single = MaskBank(bank.size, bank.p, bank.grids[::2], bank.offsets[::2], bank.weights)
    found = {e: estimate(scores[::2], single, e) for e in ESTIMATORS[:-1]}
    found["antithetic"] = estimate(scores[:n], bank.first(n), "antithetic")
    errors = {e: f.noise[0] * f.maps[0].std() for e, f in found.items()}
    best = found["antithetic"].maps[0].std()
    rest = MaskBank(bank.size, bank.p, single.grids[n // 2 :], single.offsets[n // 2 :], bank.weights)
    apart = estimate(scores[n::2], rest, "plain")
    joint = np.hypot(apart.noise[0] * apart.maps[0].std(), errors["antithetic"])
    difference = apart.maps[0] - found["antithetic"].maps[0]
    away = (difference - difference.mean()).std() / joint
    factors = [f"{(errors['plain'] / errors[e]) ** 2:.1f}" for e in ESTIMATORS[1:]]
    return [f"{errors['plain'] / best:.2f}", *factors, f"{away:.2f}"]


def _errors(cells: list[tuple[str, str, tuple[int, ...]]], n: int, quick: bool) -> Table:
    rows = []
    for model, dataset, which in cells:
        for image in _scored(model, dataset, which[:1] if quick else which, n):
            column = slice(image.label, image.label + 1)
            for score, values in (("decision value", image.scores), ("softmax", _softmax(image.scores))):
                rows.append((image.name, score, *_compared(values[:, column], image.bank, n)))
    about = (
        f"Saving: how many times fewer masks reach the error that `plain` has with {n}, by the sampling "
        "variance of the map about its mean, pixel by pixel. Last column: root mean square difference "
        "between plain and antithetic maps of different masks, by their joint standard error; 1 is what "
        "equal expectations give."
        if rows
        else "Needs the cells of `make demo`, which are not here."
    )
    heads = (
        "image", "score", "noise / spread of the map, plain", "saving, centred", "saving, control variate",
        "saving, antithetic", "difference / standard error",
    )  # fmt: skip
    return Table("Masks for equal error", about, heads, rows)
