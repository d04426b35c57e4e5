"""The report says which models have the same features, and says nothing where nothing was compared."""

import pytest
import yaml

from discern.analysis.identical import match_features
from discern.contracts import write_json
from discern.paths import FEATURES, IDENTICAL
from discern.registry import Registry
from discern.report.identical import identical_models, origins
from discern.report.site import render_report
from discern.report.tables import build_tables


def write(project, dataset, *pairs):
    names = ("a", "b", "difference", "same")
    content = {"dataset": dataset, "pairs": [dict(zip(names, p, strict=True)) for p in pairs]}
    write_json(project.root / IDENTICAL.format(study="s", dataset=dataset), content)


def sentences(small):
    project, study = small
    return identical_models(study, project.registry, project.root)


def test_twins_on_all_data_sets(small):
    project, _ = small
    for dataset in ("ct", "mr"):
        write(project, dataset, ("best", "tied", 0.0, "bits"), ("best", "worst", 1.4, ""))
    assert sentences(small) == [
        "tied is identical to best on all data sets: the features are equal to the last bit."
    ]


def test_the_shared_weights_are_named(small):
    project, _ = small
    for name in ("best", "tied"):
        file = project.root / f"registry/models/{name}.yaml"
        card = yaml.safe_load(file.read_text())
        card["weights"] = {"kind": "hub", "repo": "openai/clip", "revision": "a", "files": ["x"]}
        file.write_text(yaml.safe_dump(card))
    write(project, "ct", ("best", "tied", 0.012, "rounding"))
    write(project, "mr", ("best", "tied", 0.004, "rounding"))
    assert sentences(small) == [
        "tied is identical to best on all data sets: the features are equal up to rounding "
        "(differences of 1.2 %); both read openai/clip."
    ]


def test_some_data_sets_and_models_that_left_the_study(small):
    project, _ = small
    write(project, "ct", ("best", "tied", 0.0, "bits"), ("best", "gone", 0.0, "bits"))
    write(project, "mr", ("best", "tied", 0.7, ""))
    (sentence,) = sentences(small)
    assert sentence.startswith("tied is identical to best on ct (1 of 2 data sets):")


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_broken_comparison_is_no_error(small, content):
    project, study = small
    if content:
        project.write(IDENTICAL.format(study="s", dataset="ct"), content)
    assert sentences(small) == []
    build_tables(study, project.registry, project.root / "tables", partial=True, root=project.root)
    assert "identical" not in (project.root / "tables/table3.md").read_text()


def test_from_feature_files_to_tables_and_page(small):
    """The planted features are all ones: every pair of models coincides."""
    project, study = small
    for dataset in study.datasets:
        files = [project.root / FEATURES.format(dataset=dataset, model=m) for m in study.models]
        match_features(files, project.root / IDENTICAL.format(study="s", dataset=dataset))
    build_tables(study, project.registry, project.root / "tables", root=project.root)
    said = "tied is identical to best on all data sets"
    assert len(sentences(small)) == len(study.models) - 1  # and not one for every pair
    for name in ("table3.md", "table4.html", "table3.tex"):
        assert said in " ".join((project.root / "tables" / name).read_text().split()), name
    render_report(study, project.registry, project.root / "index.html", root=project.root)
    assert (project.root / "index.html").read_text().count(said) == 1


def test_a_tower_beside_the_checkpoint_counts_as_its_origin():
    """By the public code the authors' loaders of both run the same stock tower."""
    models = Registry(["registry"]).models
    assert origins(models["llava_med@official"]) & origins(models["llava@stock_clip"]) == {
        "openai/clip-vit-large-patch14-336"
    }
