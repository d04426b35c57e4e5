"""Near-duplicates: the library's hash, an exact search, clusters that mean something."""

import io

import imagehash
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse.csgraph import connected_components

from discern.contracts import MANIFEST, read_json, read_table, write_json
from discern.data.preparation.hamming import components, diameter
from discern.data.preparation.hashing import Strip, flat, perceptual_hashes, shrink
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard


def scene(seed, size=(96, 80)):
    """A smooth random picture with a little texture, as an RGB image."""
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.normal(size=(*size[::-1], 3)), (9, 9, 0)) * 1400
    return Image.fromarray(np.clip(values + 128 + rng.normal(0, 4, values.shape), 0, 255).astype(np.uint8))


def stacked(images):
    strip = Strip(len(images) + 3)
    for image in images:
        strip.add(shrink(image))
    return strip.pixels()


def hash_of(image):
    return int(perceptual_hashes(stacked([image]))[0])


def bits(a, b):
    return (a ^ b).bit_count()


def number(found):
    return int(str(found), 16)


def awkward():
    """Pictures whose transform is full of zeros and ties."""
    y, x = np.indices((128, 128))
    for radius in range(5, 60, 5):
        yield Image.fromarray(((x - 64) ** 2 + (y - 64) ** 2 < radius**2).astype(np.uint8) * 255)
    for width in (1, 2, 7, 31, 64):
        yield Image.fromarray((x // width % 2 * 255).astype(np.uint8))
    yield Image.fromarray((x + y).astype(np.uint8))


def test_many_hashes_at_once_are_those_of_the_library():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (*rng.integers(1, 200, 2), 3), np.uint8) for _ in range(100)]
    images = [scene(i) for i in range(50)] + [Image.fromarray(n) for n in noise]
    images += [image.convert("RGB") for image in awkward()]
    pixels = stacked(images)
    assert pixels.shape == (len(images), 32, 32)
    together = perceptual_hashes(pixels).tolist()
    assert together == [number(imagehash.phash(Image.fromarray(one))) for one in pixels]
    # Shrinking by area averages first hardly changes what the library sees.
    distances = [
        bits(a, number(imagehash.phash(image))) for a, image in zip(together[:50], images[:50], strict=True)
    ]
    assert np.mean(distances) < 1
    assert len(perceptual_hashes(np.zeros((0, 32, 32), np.uint8))) == 0


def altered(image):
    """Copies of a picture such as data sets hold."""
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=75)
    marked = image.copy()
    marked.paste((255, 255, 255), (2, 2, 14, 8))
    return {
        "recompressed": Image.open(jpeg).convert("RGB"),
        "half the size": image.resize((image.width // 2, image.height // 2)),
        "half as large again": image.resize((image.width * 3 // 2, image.height * 3 // 2)),
        "brighter": image.point(lambda v: min(255, round(v * 1.15))),
        "with a mark": marked,
    }


def test_altered_copies_are_near_and_other_pictures_are_far():
    images = [scene(i, (300, 250)) for i in range(40)]
    hashes = [hash_of(image) for image in images]
    for how in altered(images[0]):
        distances = [bits(h, hash_of(altered(i)[how])) for h, i in zip(hashes, images, strict=True)]
        assert np.mean(np.array(distances) <= 4) >= 0.9, (how, distances)
    apart = [bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 8


def test_flat_pictures_have_nothing_to_hash():
    plain = [Image.new("RGB", (50, 40), (v, v, v)) for v in (0, 7, 255)]
    speck = Image.new("RGB", (400, 400))
    speck.putpixel((5, 5), (255, 255, 255))
    dim = Image.fromarray(np.repeat(np.indices((64, 64))[1][..., None] // 8 * 2, 3, 2).astype(np.uint8))
    found = flat(stacked([*plain, speck, dim, scene(0)])).tolist()
    assert found == [True, True, True, True, False, False]


def brute(hashes, distance):
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    return connected_components(near, directed=False)[1]


def partition(labels):
    first = {}
    return [first.setdefault(label, i) for i, label in enumerate(labels.tolist())]


def planted(n, distance, rng):
    """Random hashes, of which many are others with a few bits changed, so that chains arise."""
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    for i in range(n // 2):
        value = int(hashes[rng.integers(n)])
        for bit in rng.choice(64, rng.integers(distance + 3), replace=False):
            value ^= 1 << int(bit)
        hashes[i] = value
    return hashes


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8, 12, 16])
def test_the_search_is_exact(distance):
    rng = np.random.default_rng(distance)
    crowded = rng.integers(0, 2**14, 500, dtype=np.uint64) << np.uint64(30)  # bands that are all equal
    for hashes in (
        planted(600, distance, rng),
        planted(40, distance, rng),
        crowded,
        crowded[:1],
        crowded[:0],
    ):
        assert partition(components(hashes, distance)) == partition(brute(hashes, distance))


def test_both_ways_of_searching_agree():
    """At distance 16 short bands save nothing and all pairs are compared; below, bands are used."""
    rng = np.random.default_rng(9)
    hashes = planted(3000, 6, rng)
    assert partition(components(hashes, 6)) == partition(brute(hashes, 6))
    centres = rng.integers(0, 2**64, 30, dtype=np.uint64)  # far more pairs than are kept at once
    swarm = np.repeat(centres, 100) ^ (np.uint64(1) << rng.integers(0, 64, 3000, dtype=np.uint64))
    for distance in (2, 16):
        assert partition(components(swarm, distance)) == partition(brute(swarm, distance))
    assert diameter(swarm) == max(int(np.bitwise_count(swarm ^ h).max()) for h in swarm)
    assert diameter(swarm[:1]) == 0


def test_a_quarter_of_a_million_hashes():
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, 250_000, dtype=np.uint64)
    hashes[1::1000] = hashes[::1000] ^ np.uint64(0b101)
    labels = components(hashes, 2)
    assert len(hashes) - len(np.unique(labels)) == 250
    assert (labels[1::1000] == labels[::1000]).all()


CARD = {
    "name": "x",
    "title": "X",
    "modality": "CT",
    "licence": "CC0",
    "source": {"kind": "manual", "page": "p", "place": "q"},
    "adapter": {"kind": "csv"},
    "classes": [{"name": "a"}, {"name": "b"}],
    "group_key": "patient",
}


@pytest.fixture
def audited(tmp_path):
    """A function that writes pictures with label, group and official split, and audits them."""
    root = tmp_path / "root"
    root.mkdir()

    def run(pictures, **changes):
        lines = ["path,label,group,official_split"]
        for name, (image, *columns) in pictures.items():
            (image.save(root / name) if isinstance(image, Image.Image) else (root / name).write_bytes(image))
            lines.append(",".join([name, *columns]))
        (root / "labels.csv").write_text("\n".join(lines) + "\n")
        write_json(tmp_path / "fetched.json", {"root": str(root)})
        places = [tmp_path / n for n in ("fetched.json", "m.parquet", "a.json", "made", "inspected")]
        prepare_dataset(DatasetCard.model_validate(CARD | changes), *places)
        table = read_table(MANIFEST, tmp_path / "m.parquet")[0]
        names = dict(zip(table["image_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
        return names, read_json(tmp_path / "a.json")

    return run


def test_clusters_join_what_shows_the_same(audited, tmp_path):
    first, second = scene(1), scene(2)
    copies = altered(first)
    first.save(tmp_path / "same.png", compress_level=1)
    pictures = {
        "a1.png": (first, "a", "p1", "train"),
        "a2.png": ((tmp_path / "same.png").read_bytes(), "a", "p1", "train"),  # equal pixels
        "b1.png": (copies["recompressed"], "b", "p2", "test"),
        "c1.png": (second, "a", "p3", "train"),
        "d1.png": (scene(3), "b", "", "test"),
        "d2.png": (scene(4), "b", "p3", "test"),
        "e1.png": (scene(5), "a", "p5", "train"),
        "e2.png": (scene(5), "a", "p5", "train"),  # equal files
    }
    cluster, audit = audited(pictures, hash_distance=4)
    assert {k: v for k, v in cluster.items() if v} == {
        "a1": "a1", "a2": "a1", "b1": "a1", "e1": "e1", "e2": "e1",
    }  # fmt: skip
    near, exact = audit["near_duplicates"]
    assert near == {
        "cluster": "a1",
        "kind": "near",
        "max_distance": near["max_distance"],
        "image_ids": ["a1", "a2", "b1"],
        "labels": ["a", "b"],
        "groups": ["p1", "p2"],
        "official_splits": ["test", "train"],
    }
    assert near["max_distance"] == bits(hash_of(first), hash_of(copies["recompressed"])) <= 4
    assert (exact["kind"], exact["max_distance"], exact["image_ids"]) == ("exact", 0, ["e1", "e2"])
    assert [(next(iter(c)), c["image_ids"]) for c in audit["duplicates"]] == [
        ("image_ids", ["a1", "a2"]), ("image_ids", ["e1", "e2"]),
    ]  # fmt: skip
    assert ["sha256" in c for c in audit["duplicates"]] == [False, True]
    assert audit["near"] == {
        "hash": "phash", "hash_distance": 4, "without_hash": 0, "clusters": 2, "images": 5, "largest": 3,
        "crossing_labels": 1, "crossing_groups": 1, "crossing_official_splits": 1,
    }  # fmt: skip
    assert audit["groups"] == {
        "n": 4, "images_without": 1, "in_several_official_splits": {"p3": ["test", "train"]},
    }  # fmt: skip


def test_the_distance_is_the_cards(audited):
    image = scene(1)
    far = next(
        i
        for i in (image.rotate(a / 10, resample=3) for a in range(1, 300))
        if bits(hash_of(i), hash_of(image)) > 4
    )
    apart = bits(hash_of(far), hash_of(image))
    pictures = {"a1.png": (image, "a", "p", ""), "b1.png": (far, "b", "p", "")}
    assert audited(pictures, hash_distance=apart)[0] == {"a1": "a1", "b1": "a1"}
    assert audited(pictures, hash_distance=apart - 1)[0] == {"a1": None, "b1": None}


def test_flat_pictures_are_compared_exactly(audited):
    def plain(value):
        return Image.new("RGB", (40, 30), (value, value, value))

    pictures = {
        "a1.png": (plain(0), "a", "p", ""),
        "a2.png": (plain(3), "a", "p", ""),  # looks black as well, and is another picture
        "b1.bmp": (plain(0), "b", "q", ""),
        "b2.png": (Image.new("RGB", (30, 40)), "b", "q", ""),
    }
    cluster, audit = audited(pictures)
    assert cluster == {"a1": "a1", "a2": None, "b1": "a1", "b2": None}
    assert audit["near"]["without_hash"] == 4
    assert [c["kind"] for c in audit["near_duplicates"]] == ["exact"]


def test_pictures_that_differ_in_colour_alone_are_no_exact_duplicates(audited):
    """Their luma is equal, so only the pixels tell them apart."""
    values = np.asarray(scene(1)).copy()
    swapped = values.copy()
    swapped[::2, ::2] = swapped[::2, ::2, [2, 1, 0]]
    grey = np.asarray(Image.fromarray(values).convert("L"))
    red, blue = (np.zeros_like(values) for _ in range(2))
    red[..., 1], blue[..., 1] = grey, grey
    blue[0, 0, 2] ^= 1  # one unit of blue in one pixel: no luma
    pictures = {
        "a1.png": (Image.fromarray(red), "a", "p", ""),
        "b1.png": (Image.fromarray(blue), "b", "p", ""),
        "b2.png": (Image.fromarray(swapped), "b", "p", ""),
    }
    cluster, audit = audited(pictures)
    assert audit["duplicates"] == []
    assert cluster["b1"] == "a1"
    assert audit["near_duplicates"][0]["kind"] == "near"
