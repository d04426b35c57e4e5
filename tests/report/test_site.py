"""The page stands alone, shows what is there, gives reasons for what is not, and trusts no name."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from discern import contracts, paths
from discern.config import Study
from discern.report.pictures import embed, limits
from discern.report.site import duration, protocol_words, render_report, signed

VOID = {"meta", "img", "br", "path", "use", "link", "hr", "input"}


class Outline(HTMLParser):
    """Collects tags, attributes and text; notes elements closed in the wrong order."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.wrong, self.tags, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def render(project, study, **options):
    out = project.root / "index.html"
    render_report(study, project.registry, out, root=project.root, **options)
    return out.read_text(encoding="utf-8")


@pytest.fixture
def full(small):
    """The small study with maps, saliency, comparisons and run times of one cell each."""
    project, study = small
    labels = [0] * 30 + [1] * 10
    where = {"study": "s", "dataset": "ct", "model": "best"}
    project.umap(**where, labels=labels)
    for path in (paths.UMAP_FIGURE, paths.UMAP_GRID, paths.RISE_FIGURE):
        file = project.root / path.format(**where)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), "red").save(file)
    rise = {
        "image_id": ["a", "b", "c"], "true": [0, 0, 1], "predicted": [0, 1, 1],
        "correct": [True, False, True], "decision": [0.1] * 3, "saliency": [np.zeros(4, "float16")] * 3,
        "saliency_error": [np.zeros(4, "float16")] * 3, "standard_error": [0.01, 0.02, 0.03],
        "n_masks": [64] * 3,
        "hottest_in_target": [True, False, None], "target_share": [0.6, 0.2, None],
        "target_area": [0.1, 0.1, None],
    }  # fmt: skip
    contracts.write_table(contracts.RISE, project.root / paths.RISE.format(**where), rise, {})
    pair = {
        "dataset": ["ct", "mr"], "protocol": ["image"] * 2, "metric": ["accuracy"] * 2,
        "model_a": ["best"] * 2, "model_b": ["worst"] * 2, "difference": [0.1, 0.02], "low": [0.05, -0.01],
        "high": [0.15, 0.05], "n_test": [8, 8],
    }  # fmt: skip
    contracts.write_table(contracts.COMPARISONS, project.root / paths.COMPARISONS.format(study="s"), pair, {})
    project.write(
        "results/s/benchmarks/fit_svm/ct/best/image.tsv", "s\th:m:s\tmax_rss\n90.5\t0:01:30\t123.4\n"
    )
    project.write("results/shared/benchmarks/extract_features/other/best.tsv", "s\tmax_rss\n9999\t1\n")
    return project, study


def test_stands_alone_and_is_well_formed(full):
    page = Outline(render(*full))
    assert not page.wrong
    assert not page.stack
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert re.match(r"data:image/|#", attributes.get(name) or "#"), (tag, attributes)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in page.tags if t == "a"} <= set(ids)
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert "url(http" not in "".join(page.words)
    assert "@import" not in "".join(page.words)


def test_shows_planted_results(full):
    words = " ".join(" ".join(Outline(render(*full)).words).split())
    assert "90.0 ± 2.0" in words
    assert "best / image" not in words.replace("ct / best / image", "")
    assert "fit_svm 100 % 1 min 30 s 1 — — 123 MB — 1 min 30 s ct / best / image" in words
    assert "9999" not in words
    assert "2 h 46 min" not in words  # the other study's job
    assert "64 2 % 2 40.0 % 10.0 % 4.00 50 %" in words  # masks, noise, targets and what was hit
    assert "1 of 1 pairs differ" in words
    assert "0 of 1 pairs differ" in words
    assert "timm 1.0.31" in words
    assert "n_bootstrap: 2000" in words
    assert "42.0 images/s on cpu" in words


def test_only_decided_differences_are_coloured(full):
    page = render(*full)
    assert page.count('<td class="up"') == 1
    assert page.count('<td class="down"') == 1
    assert "Best − Worst: +10.0 [+5.0, +15.0]" in page
    assert "Worst − Best: −10.0 [−15.0, −5.0]" in page


def test_missing_figures_show_their_reason(full):
    project, study = full
    log = paths.CELL_LOG.format(rule="embed_umap", study="s", dataset="mr", model="worst")
    project.write(log, "error: a map of <b>nothing</b>\n")
    page = render(project, study)
    assert "embed_umap: a map of &lt;b&gt;nothing&lt;/b&gt; <code>" + log in page
    assert "worst on mr, feature map" in page


def test_an_empty_project_renders(project):
    project.model("net")
    project.dataset("ct")
    study = Study(study="s", models=["net"], datasets=["ct"], note="a & b")
    page = render(project, study, partial=True)
    assert not Outline(page).wrong
    assert "0 of 1 score cells are made" in page
    assert "fetch_dataset" in page
    assert "a &amp; b" in page


def test_hostile_names_are_escaped(small):
    project, study = small
    evil = "<script>alert(1)</script>"
    project.dataset(
        "ct", title=evil, classes=(evil, '"><img src=x onerror=alert(1)>'), licence=evil, traps=[evil]
    )
    project.model("best", title=evil, summary=evil, notes=[evil])
    page = render(project, study.model_copy(update={"note": evil}))
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_the_same_files_give_the_same_page(full):
    assert render(*full) == render(*full)


def test_pictures_shrink_to_their_share(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (900, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "big.png")
    big = embed(tmp_path / "big.png", 150_000)
    assert big.source.startswith("data:image/webp;base64,")
    assert len(big.source) < 4 / 3 * 150_000 + 100
    assert abs(big.width / big.height - 16 / 9) < 0.01
    Image.new("RGB", (50, 20)).save(tmp_path / "small.png")
    small = embed(tmp_path / "small.png", 150_000)
    assert small.source.startswith("data:image/png;base64,")
    assert (small.width, small.height) == (50, 20)
    (tmp_path / "torn.png").write_bytes((tmp_path / "big.png").read_bytes()[:5000])
    assert embed(tmp_path / "torn.png", 150_000) is None
    assert embed(tmp_path / "none.png", 150_000) is None


def test_the_picture_budget_holds_for_the_demo():
    counts = {"map": 30, "grid": 30, "rise": 30}
    allowed = limits(counts, 30)
    assert sum(allowed[kind] * n for kind, n in counts.items()) * 4 / 3 < 15_000_000


def test_words_follow_the_settings():
    study = Study.model_validate(
        {"study": "s", "models": ["m"], "datasets": ["d"], "split": {"holdout": 0.25, "folds": 4, "seed": 7}}
    )
    words = dict(protocol_words(study))
    assert words["Split"].startswith("25 % of the images")
    assert "4 folds" in words["Split"]
    assert "seed 7" in words["Split"]
    assert "{1, 10, 100, 1000, 10000}" in words["Classifier"]


def test_numbers_as_words():
    assert [duration(s) for s in (12.34, 754, 8000)] == ["12.3 s", "12 min 34 s", "2 h 13 min"]
    assert [signed(v) for v in (1.26, -3.0, -0.01)] == ["+1.3", "−3.0", "0.0"]


def test_half_precision_is_told_with_what_it_changed(small):
    project, study = small
    project.features("ct", "best", precision="bfloat16", deviation={"max_relative": 0.0123})
    page = render(project, study)
    assert "bfloat16; features differ from float32 by up to 1.2e-02 of their largest value" in page
    assert page.count("<dt>Arithmetic</dt>") == 1
