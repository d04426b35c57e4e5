"""Duplicates and neighbours on the page: planted clusters come back counted, pictured, and no more."""

import re

import pytest
from PIL import Image

from discern import contracts, paths
from discern.report.leakage import duplicate_facts, neighbour_facts
from discern.report.pictures import strips as picture_strips
from discern.report.site import render_report


def name(i):
    return f"i{i:05d}"


def cluster(*numbers, **fields):
    return {"image_ids": [name(i) for i in numbers], **fields}


@pytest.fixture
def audited(small):
    """``mr`` (groups of four images, classes 20 + 10 + 10) with clusters of every kind."""
    project, study = small
    project.audit(
        "mr", n=40,
        duplicates=[cluster(0, 1), cluster(4, 9), cluster(18, 21)],
        near_duplicates=[
            cluster(0, 1, kind="exact", max_distance=0), cluster(4, 9, 10, kind="near", max_distance=2),
            cluster(30, 31, kind="near", max_distance=0),
        ],
        groups={"n": 10, "images_without": 0, "in_several_official_splits": {"p3": ["test", "train"]}},
    )  # fmt: skip
    project.splits("s", "mr", straddling_clusters=2, straddling_groups=7)
    project.pictures(40)
    return project, study


def facts(project, study, title="MR"):
    return next(d for d in duplicate_facts(study, project.registry, project.root) if d["title"] == title)


def test_clusters_are_counted_once(audited):
    found = facts(*audited)
    assert (found["exact"], found["near"], found["images"], found["n"]) == (3, 2, 9, 40)
    assert (found["labels"], found["groups"], found["splits"]) == (1, 2, None)  # 18, 21; and 4, 9, 10
    assert found["shared"] == 1
    assert found["straddling"] == {"image": {"clusters": 2, "groups": 7}}


def test_what_an_older_audit_and_split_do_not_say_is_not_counted(audited):
    found = facts(*audited, title="CT & friends")
    assert (found["exact"], found["near"], found["groups"]) == (1, None, None)
    assert found["shared"] is None
    assert found["straddling"] == {"image": {"clusters": None, "groups": None}}


def test_what_the_audit_says_of_images_outside_the_pool_counts(audited):
    project, study = audited
    project.audit("mr", near_duplicates=[cluster(3, 900, kind="near", official_splits=["train", "test"])])
    table, about = contracts.read_table(
        contracts.MANIFEST, project.root / paths.MANIFEST.format(dataset="mr")
    )
    column = table.column_names.index("official_split")
    table = table.set_column(column, "official_split", [["train"] * 40])
    contracts.write_table(
        contracts.MANIFEST, project.root / paths.MANIFEST.format(dataset="mr"), table, about
    )
    assert facts(project, study)["splits"] == 1


def test_strips_show_the_worst_clusters_first(audited):
    strips = facts(*audited)["strips"]
    assert [s.image_ids for s in strips] == [
        [name(i) for i in ids] for ids in ((18, 21), (4, 9, 10), (30, 31), (0, 1))
    ]
    assert strips[0].words == "a / b, equal"
    assert strips[1].words == "a, up to 2 of 64 bits apart"
    assert strips[2].words == "c, up to 0 of 64 bits apart"
    assert {(p.width, p.height) for s in strips for p in s.pictures} == {(64, 32)}
    assert all(p.source.startswith("data:image/webp;base64,") for s in strips for p in s.pictures)


def test_pictures_that_are_gone_or_too_many_are_left_out(audited):
    project, study = audited
    (project.root / "data/21.png").unlink()
    assert [s.image_ids[0] for s in facts(project, study)["strips"]] == [name(i) for i in (4, 30, 0)]
    project.audit("mr", duplicates=[cluster(*range(i, i + 5)) for i in range(0, 20, 2)])
    strips = facts(project, study)["strips"]
    assert len(strips) == 6
    assert {len(s.pictures) for s in strips} == {4}
    Image.new("RGB", (3000, 1500)).save(project.root / "data/0.png")
    assert max(p.width for s in facts(project, study)["strips"] for p in s.pictures) == 112


def test_volumes_and_unknown_places_have_no_strip(audited):
    root, about = audited[0].root, {"root": "data", "made": "made", "decoding": {}}
    clusters = [(["scan.nii.gz", "0.png"], ["a", "b"], "")]
    assert picture_strips(clusters, about, root) == []
    assert len(picture_strips([(["0.png"], ["a"], "")], about, root)) == 1
    assert picture_strips([(["0.png"], ["a"], "")], {"root": "data"}, root) == []


def page(project, study):
    render_report(study, project.registry, project.root / "index.html", root=project.root)
    text = (project.root / "index.html").read_text()
    section = text.split('<section id="leakage"')[1].split("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", section).split()), section


def test_the_page_shows_counts_and_pictures(audited):
    words, section = page(*audited)
    assert "MR 3 2 9 of 40 1 2 — 1 2 7" in words
    assert "a / b, equal i00018, i00021" in words
    assert section.count("<img") == 9 + 2  # and the exact pair of `ct`


def test_the_page_shows_neighbours_and_pairs(audited):
    project, study = audited
    project.neighbours("s", "mr", ["best", "worst"], [(name(5), name(6), True), (name(7), name(8), False)])
    project.neighbours("s", "ct", ["best"], chance={"same_label": 0.5, "same_group": None})
    words, section = page(project, study)
    assert "MR: 2 candidate pairs, 1 across the hold-out by image, 0 across classes" in words
    assert "CT &amp; friends: 0 candidate pairs Model" in words
    assert "Worst 61 % 90 % 25 % 0.500 0.050 to 0.950" in words
    assert "Training image at random 5 % 50 %" in words
    assert "Training image at random — 50 %" in words
    assert "i00005 and i00006 a — yes 2 of 2 0.9999" in words
    assert "a, across the hold-out i00005, i00006" in words
    assert "Pixels" not in words
    assert section.count("<img") == 9 + 2 + 4


def test_missing_neighbours_show_their_reason(audited):
    project, study = audited
    project.splits("s", "ct")
    log = paths.DATASET_CELLS_LOG.format(study="s", rule="find_neighbours", dataset="ct")
    project.write(log, "error: a feature is zero\n")
    found = {d["title"]: d for d in neighbour_facts(study, project.registry, project.root)}
    assert found["CT & friends"]["failure"].reason == "a feature is zero"
    assert "find_neighbours: a feature is zero" in page(project, study)[0]


def test_controls_alone_and_data_sets_without_a_split_are_no_failure(both):
    project, study = both
    controls = study.model_copy(update={"models": ["pixels"]})
    assert neighbour_facts(controls, project.registry, project.root) == []
    grouped = study.model_copy(update={"split": study.split.model_copy(update={"protocols": ["group"]})})
    titles = [d["title"] for d in neighbour_facts(grouped, project.registry, project.root)]
    assert titles == ["MR"]
