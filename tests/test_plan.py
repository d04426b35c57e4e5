"""What the rules are given: places stay out of what is tracked, slices hold no more than they need."""

import json
import re

import pytest

from discern import paths
from discern.config import read_study
from discern.plan import Plan, dump


@pytest.fixture(scope="module")
def plan():
    return Plan(read_study("config.yaml", "config/ci.yaml"))


def test_without_conda_an_environment_is_a_file_named_by_its_pins(plan):
    [lock] = plan.environment_lock("timm06")
    assert plan.environment_digest("timm06") in lock
    assert plan.python("timm06") == lock.replace("lock.txt", "bin/python")


def test_with_conda_snakemake_provides_the_interpreter():
    plan = Plan(read_study("config.yaml", "config/ci.yaml"), conda=True)
    assert plan.environment_lock("timm06") == []
    assert plan.python("timm06") == "python"


def test_cells_fill_the_path_grammar_once(plan):
    n_models, n_datasets = len(plan.study.models), len(plan.study.datasets)
    assert len(plan.expand(paths.FEATURES)) == n_models * n_datasets
    assert len(plan.expand(paths.MANIFEST)) == n_datasets
    assert plan.expand(paths.UMAP, ["mr_organs"]) == [
        f"results/ci/umap/mr_organs/{model}.parquet" for model in plan.study.models
    ]


def test_controls_do_not_judge_neighbours(plan):
    names = [file.rsplit("/")[-1] for file in plan.features("mr_organs", controls=False)]
    assert names == [f"{m}.parquet" for m in ("mobilenetv2", "efficientnet_lite0", "opennsfw_resnet50")]
    assert plan.neighbours() == [f"results/ci/neighbours/{d}.json" for d in plan.study.datasets]
    controls = Plan(plan.study.model_copy(update={"models": ["pixels32"]}))
    assert controls.neighbours() == []


def test_protocols_are_compared_where_there_are_two(plan):
    assert plan.gaps() == []
    assert plan.hold_out("mr_organs") == ["results/ci/splits/mr_organs/image.parquet"]

    def by(*protocols):
        split = plan.study.split.model_copy(update={"protocols": list(protocols)})
        return Plan(plan.study.model_copy(update={"split": split}))

    assert by("group", "image").gaps() == ["results/ci/tables/gaps.parquet"]
    assert by("group", "image").hold_out("ct_organs") == ["results/ci/splits/ct_organs/image.parquet"]
    assert by("group").hold_out("ct_organs") == ["results/ci/splits/ct_organs/group.parquet"]
    assert by("group").hold_out("mr_organs") == []  # has no groups
    assert "results/ci/neighbours/mr_organs.json" not in by("group").neighbours()


def test_logs_and_benchmarks_share_the_grammar(plan):
    assert plan.log(paths.CELL_LOG, "embed_umap") == "results/ci/logs/embed_umap/{dataset}/{model}.log"
    assert (
        plan.benchmark(paths.MODEL_LOG, "fetch_weights")
        == "results/shared/benchmarks/fetch_weights/{model}.tsv"
    )


def test_the_extraction_slice_holds_only_what_features_depend_on(plan):
    card = plan.model("mobilenetv2")
    same = card.model_copy(
        update={"title": "x", "batch_size": 1, "licence": "x", "gpu": False, "notes": ["x"]}
    )
    assert dump(card.extraction_spec()) == dump(same.extraction_spec())
    other = card.model_copy(update={"preprocess": card.preprocess.model_copy(update={"size": 99})})
    assert dump(card.extraction_spec()) != dump(other.extraction_spec())


def test_dump_does_not_depend_on_key_order():
    assert dump({"b": 1, "a": 2}) == dump({"a": 2, "b": 1})
    assert json.loads(dump({"b": 1, "a": 2})) == {"a": 2, "b": 1}


def test_every_rule_has_its_script(plan):
    text = "".join(p.read_text() for p in sorted((plan.base / "workflow/rules").glob("*.smk")))
    rules = re.findall(r"^rule (\w+):", text, re.MULTILINE)
    assert {
        "fetch_dataset", "prepare_dataset", "split_dataset", "fetch_weights", "build_environment",
        "extract_features", "extract_shard", "merge_features", "match_features", "find_neighbours",
        "fit_svm", "embed_umap", "explain_rise", "build_tables", "compare_models", "compare_protocols",
        "render_report",
    } == set(rules)  # fmt: skip
    assert all(plan.script(rule).is_file() for rule in rules)


def test_what_is_kept_belongs_to_its_own_model_and_rule(plan):
    models = plan.study.models
    assert len({plan.fingerprint(m) for m in models}) == len(models)
    assert plan.encoder_code("extract_features", "pixels32") != plan.encoder_code("explain_rise", "pixels32")
    assert plan.encoder_code("extract_features", "pixels32") != plan.encoder_code(
        "extract_features", models[0]
    )
    assert plan.code("fit_svm") != plan.code("fit_svm", "discern.analysis.neighbours")
    assert plan.command("fit_svm", "analysis", 2).endswith("fit_svm.py --threads 2")
    assert plan.command("fit_svm", "data", 1).startswith(plan.python("data"))
    fresh = Plan(plan.study)
    assert [fresh.fingerprint(m) for m in models] == [plan.fingerprint(m) for m in models]


def sharded(plan, most, **registry):
    extract = plan.study.extract.model_copy(update={"shard_images": most})
    return Plan(plan.study.model_copy(update={"extract": extract} | registry))


@pytest.mark.parametrize("most", [1, 31, 32, 33, 100, 235, 459, 460])
def test_shards_begin_where_batches_do_and_cover_every_row(plan, most):
    for model, batch in (("mobilenetv2", 32), ("pixels32", 64)):
        rows = sharded(plan, most).shards("head_planes", model)
        starts, ends = zip(*(name.split("-") for name in rows), strict=True)
        assert starts[0] == "0"
        assert ends == (*starts[1:], "end")
        assert all(int(start) % batch == 0 and int(start) < 460 for start in starts)
        assert len(rows) == -(-460 // (batch * -(-most // batch)))


@pytest.mark.parametrize("batch", [1, 3, 8, 12, 32, 100, "auto"])
def test_shards_begin_at_batches_of_every_device(plan, monkeypatch, batch):
    from discern.features.memory import OPEN

    card = plan.model("mobilenetv2").model_copy(update={"batch_size": batch})
    own = sharded(plan, 7)
    monkeypatch.setattr(own, "model", lambda _: card)
    cpu = OPEN["cpu"] if batch == "auto" else min(batch, OPEN["cpu"])
    gpu = OPEN["cuda"] if batch == "auto" else batch
    for rows in own.shards("ct_organs", "mobilenetv2"):
        start = int(rows.split("-")[0])
        assert start % cpu == start % gpu == 0


def test_data_sets_beyond_the_number_are_sharded_and_no_others(plan):
    numbers = {name: plan.dataset(name).n for name in plan.study.datasets}
    assert plan.sharded() == sharded(plan, None).sharded() == []
    assert sharded(plan, 350).sharded() == [n for n in plan.study.datasets if numbers[n] > 350]
    assert sharded(plan, max(numbers.values())).sharded() == []


def test_a_data_set_is_made_in_one_way(plan):
    def ways(plan, name):
        patterns = (plan.whole_pattern(), plan.sharded_pattern())
        return [bool(re.fullmatch(f"(?P<d>{p})/x", f"{name}/x")) for p in patterns]

    for most in (None, 1, 350, 10**9):
        own = sharded(plan, most)
        for name in [*plan.study.datasets, "not_in_the_study", "head_planes@part", "head_planes2"]:
            assert ways(own, name) == [name not in own.sharded(), name in own.sharded()]


def test_readings_that_are_subsets_take_the_shards_of_their_data_set(plan, monkeypatch):
    card = plan.dataset("head_planes")
    part = {"reading": "two of three", "subset": True, "drop": ["a*"], "expected_n": 10}
    card = card.model_copy(update={"readings": {"part": part, "own": part | {"subset": False}}})
    study = plan.study.model_copy(update={"datasets": ["head_planes@part", "head_planes@own"]})
    own = sharded(Plan(study), 100)
    cards = {"head_planes": card} | {f"head_planes@{p}": card.selected(p) for p in ("part", "own")}
    for name, each in cards.items():
        monkeypatch.setitem(own.registry.datasets._cards, name, each)
    assert own.sharded() == ["head_planes"]
    assert own.features() == [
        paths.FEATURES.format(dataset=d, model=m)
        for d in ("head_planes", "head_planes@own")
        for m in plan.study.models
    ]


def test_a_data_set_of_unknown_size_is_never_sharded(plan, monkeypatch):
    card = plan.dataset("head_planes")
    classes = [c.model_copy(update={"count": None}) for c in card.classes]
    own = sharded(plan, 1)
    unknown = card.model_copy(update={"classes": classes, "expected_n": None})
    monkeypatch.setitem(own.registry.datasets._cards, "head_planes", unknown)
    assert unknown.n is None
    assert "head_planes" not in own.sharded()
