"""RISE: time per image beside other implementations, and the masks that each estimator needs."""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import rise_bias, rise_errors
from benchmarks.side_by_side import Table

N = 4096
N_TIMED = 32  # passes that are timed, at least; all ways but our sums over masks are linear in their number
ROUNDS = 3
BARE = (8, 16, 32)  # batches of the bare passes; the fastest counts
CLASSES = 8
#: torchvision and timm names; weights are random, which the time does not depend on.
NETWORKS = ["mobilenet_v3_small", "resnet18", "vit_tiny_patch16_224"]


class Way(NamedTuple):
    """What is timed, and how many forward passes it makes; 0 where its time is that of N masks."""

    run: Callable[[], object]
    passes: int


def tables(quick: bool) -> list[Table]:
    """Times first, then errors; ``quick`` takes one network, few masks and one image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = _times(NETWORKS[:1] if quick else NETWORKS, 16 if quick else N_TIMED, 1 if quick else ROUNDS)
        return [times, rise_errors.savings(quick), rise_bias.biases(quick)]


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


def _ways(name: str, n: int) -> dict[str, Way]:
    """Every way to the map of one image, and the forward passes alone."""
    import copy

    import torch

    from benchmarks.rise_peers import PUBLISHED_BATCH, Published, present
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
    scorer = scorer_of(encoder, classifier, bank)
    scorer.look_at(picture)
    drawn = rng.normal(size=(N, CLASSES))
    masks = np.empty((PUBLISHED_BATCH, 224, 224), np.float32)
    bank.fill(0, masks)
    published = Published(masks, 0.5)
    layouts = {True: torch.channels_last, False: torch.contiguous_format}
    last = any(w.dim() == 4 and not w.is_contiguous() for w in encoder.module.parameters())
    many = image.repeat(max(BARE), 1, 1, 1).contiguous(memory_format=layouts[last])

    def scores(pictures: Any) -> Any:
        return plain(pictures) @ weights

    def bare(size: int) -> None:
        with torch.inference_mode():
            for _ in range(max(BARE) // size):
                encoder.forward(many[:size])

    whole = -(-n // scorer.batch_size) * scorer.batch_size
    ways = {f"bare {size}": Way(lambda size=size: bare(size), max(BARE)) for size in BARE}
    ways["ours"] = Way(lambda: scorer.scores(0, whole), whole)
    ways["sums"] = Way(lambda: estimate(drawn, bank, "plain"), 0)
    ways["published"] = Way(lambda: published(scores, image, PUBLISHED_BATCH, 0), PUBLISHED_BATCH)
    for package, way in present().items():
        ways[package] = Way(lambda way=way: way(scores, image, n, 0), n)
    return ways


def _seconds(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of the maps with N masks, in turn; of bare passes with the batch of the lowest median."""
    for name in ("ours", f"bare {BARE[0]}"):
        ways[name].run()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way.run()
            found[name].append((time.process_time() - started) * (N / way.passes if way.passes else 1))
    found["ours"] = [a + b for a, b in zip(found["ours"], found["sums"], strict=True)]
    found["bare"] = min((found[f"bare {size}"] for size in BARE), key=statistics.median)
    return found


def _over(seconds: dict[str, list[float]], side: str, base: str) -> str:
    if side not in seconds:
        return "not installed"
    found = [x / y for x, y in zip(seconds[side], seconds[base], strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _times(networks: list[str], n: int, rounds: int) -> Table:
    import torch

    from benchmarks.rise_peers import PACKAGES, PUBLISHED_BATCH

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    others = ["published", *PACKAGES]
    rows = []
    for name in networks:
        seconds = _seconds(_ways(name, n), rounds)
        row = [_over(seconds, other, "ours") for other in others]
        over = [_over(seconds, side, "bare") for side in ("ours", "captum-rise")]
        rows.append((name, *over, *row))
    torch.set_num_threads(threads)
    about = (
        f"CPU time of the maps of one image with {N:,} masks at 224 x 224 and {CLASSES} classes, one thread, "
        f"from {n} passes or a few more; ours with standard errors. Bare passes: the same network, nothing "
        f"else, in batches of {', '.join(map(str, BARE))}, of which the fastest counts. Published: the "
        f"authors' procedure as we read their code, in its batches of {PUBLISHED_BATCH}, its masks already "
        "made and held at full size. Packages at their own batch size, making masks as they go; captum-rise "
        "makes the map of one class."
    )
    heads = (
        "network", "ours / bare passes", "captum-rise / bare passes", *(f"{other} / ours" for other in others)
    )  # fmt: skip
    return Table("Time of a map at equal N", about, heads, rows)
