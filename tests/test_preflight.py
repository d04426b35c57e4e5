"""What a study lacks is said before anything runs."""

from pathlib import Path

import pytest
import yaml

from discern import preflight
from discern.config import read_study
from discern.errors import DiscernError
from discern.plan import Plan
from discern.registry import Registry

MODEL = {
    "title": "T",
    "group": "control",
    "weights": {"kind": "none"},
    "loader": {"route": "pixels"},
    "preprocess": {"resize": "squash", "size": 8},
    "features": [{"name": "pixels", "d": 64}],
    "environment": "data",
    "licence": "none",
}
DATA = {
    "title": "D",
    "modality": "CT",
    "source": {"kind": "manual", "page": "https://example.org/dots", "place": "dots.zip"},
    "adapter": {"kind": "image_folder"},
    "classes": [{"name": "a"}, {"name": "b"}],
    "licence": "none",
}
HUB = {"kind": "hub", "repo": "some/where", "revision": "a" * 40, "files": ["w.bin"]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write cards and a study into an empty project; returns its study and registry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    Path("envs").mkdir()
    Path("envs/data.yaml").write_text("dependencies:\n  - python=3.11\n")

    def make(models, datasets):
        for kind, cards, base in (("models", models, MODEL), ("datasets", datasets, DATA)):
            Path("registry", kind).mkdir(parents=True, exist_ok=True)
            for name, changes in cards.items():
                Path("registry", kind, f"{name}.yaml").write_text(
                    yaml.safe_dump({"name": name} | base | changes)
                )
        study = {"study": "try", "models": list(models), "datasets": list(datasets)}
        Path("try.yaml").write_text(yaml.safe_dump(study))
        return read_study("try.yaml"), Registry()

    return make


def test_a_manual_data_set_is_missing_until_its_folder_is_filled(project):
    study, registry = project({"m": {}}, {"dots": {}})
    (missing,) = preflight.missing_inputs(study, registry)
    assert (missing.kind, missing.name) == ("data set", "dots")
    assert missing.place == "resources/datasets/dots"
    assert "https://example.org/dots" in missing.need
    text = preflight.report([missing])
    assert "dots.zip" in text
    assert "resources/datasets/dots" in text
    Path("resources/datasets/dots").mkdir(parents=True)
    Path("resources/datasets/dots/dots.zip").write_text("x")
    assert preflight.missing_inputs(study, registry) == []


def test_weights_that_only_a_person_can_bring(project):
    weights = {"kind": "manual", "page": "https://example.org/w", "place": "w.pt"}
    study, registry = project({"m": {"weights": weights}}, {"dots": {"source": HUB}})
    (missing,) = preflight.missing_inputs(study, registry)
    assert (missing.kind, missing.name, missing.place) == ("weights", "m", "resources/weights/m")
    Path("resources/weights/m").mkdir(parents=True)
    Path("resources/weights/m/w.pt").write_text("x")
    assert preflight.missing_inputs(study, registry) == []


def test_gated_weights_need_a_token(project, monkeypatch):
    gated = HUB | {"gated": True, "terms": "https://example.org/terms"}
    study, registry = project({"m": {"weights": gated}}, {"dots": {"source": HUB}})
    (missing,) = preflight.missing_inputs(study, registry)
    assert "https://example.org/terms" in missing.need
    monkeypatch.setenv("HF_TOKEN", "x")
    assert preflight.missing_inputs(study, registry) == []


@pytest.mark.parametrize(("field", "value"), [("revision", None), ("files", [])])
def test_an_incomplete_pin_is_reported(project, field, value):
    study, registry = project({"m": {"weights": HUB | {field: value}}}, {"dots": {"source": HUB}})
    (missing,) = preflight.missing_inputs(study, registry)
    assert field in missing.need


def test_nothing_missing_is_one_line(project):
    study, registry = project({"m": {}}, {"dots": {"source": HUB}})
    head, inputs = preflight.summary(study, registry).splitlines()
    assert head == "study try: 1 models x 1 data sets, 1 cells"
    assert inputs == "inputs: all are here or are fetched automatically"


VOLUME = {"spacing": [1, 1, 1], "window": [-1000, 1000], "scaled": [0, 1], "size": [4, 4, 4], "fill": 0}


def test_inapplicable_cells_are_counted(project):
    study, registry = project(
        {"m": {}, "v": {"preprocess": None, "volume": VOLUME}}, {"dots": {"source": HUB}}
    )
    assert "1 cells (1 more do not apply)" in preflight.summary(study, registry)


def test_all_broken_cards_are_reported_together(project):
    study, registry = project({"m": {"gpus": True}, "n": {"environment": "tensor"}}, {"dots": {}})
    with pytest.raises(DiscernError) as error:
        preflight.check_cards(study, registry)
    text = str(error.value)
    assert "unknown field 'gpus'; did you mean 'gpu'" in text
    assert "environment: found 'tensor'" in text
    assert "allowed: data" in text


def test_an_unpinned_environment_stops_the_study(project):
    study, registry = project({"m": {}}, {"dots": {}})
    Path("envs/data.yaml").write_text("dependencies:\n  - python=3.11\n  - pip:\n      - torch\n")
    with pytest.raises(DiscernError, match="not pinned: torch"):
        preflight.check_cards(study, registry)


REMOTE = {
    "weights": HUB,
    "loader": {"route": "remote_code", "arch": "AutoModel"},
    "remote_code": True,
}


def test_published_code_runs_only_where_the_study_allows_it(project):
    study, registry = project({"m": REMOTE, "n": {}}, {"dots": {"source": HUB}})
    for refused in (lambda s: preflight.check_cards(s, registry), lambda s: Plan(s).model("m")):
        with pytest.raises(DiscernError) as error:
            refused(study)
        text = str(error.value)
        assert text.startswith("registry/models/m.yaml: model 'm' runs code published with its weights")
        assert f"some/where at revision {'a' * 40}" in text
        assert "allow_remote_code: true" in text
        refused(study.model_copy(update={"allow_remote_code": True}))


def test_a_variant_with_code_concerns_only_studies_that_name_it(project):
    changes = {"variants": {"official": REMOTE}}
    study, registry = project({"m": changes}, {"dots": {"source": HUB}})
    preflight.check_cards(study, registry)
    named = study.model_copy(update={"models": ["m@official"]})
    with pytest.raises(DiscernError, match="model 'm@official' runs code"):
        preflight.check_cards(named, registry)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"remote_code": False}, "must be true with loader.route 'remote_code'"),
        ({"weights": HUB | {"revision": None}}, "at a pinned revision"),
        ({"weights": HUB | {"revision": "main"}}, "at a pinned revision"),
        ({"weights": {"kind": "manual", "place": "w.bin"}}, "at a pinned revision"),
    ],
)
def test_code_without_a_pinned_origin_is_no_card(project, changes, part):
    study, registry = project({"m": REMOTE | changes}, {"dots": {"source": HUB}})
    with pytest.raises(DiscernError) as error:
        preflight.check_cards(study, registry)
    assert part in str(error.value)
