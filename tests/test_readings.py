"""``data_set@reading`` is an ordinary card: other classes, another pool, other files."""

import pytest
import yaml

from discern import paths, preflight
from discern.config import load_study
from discern.errors import DiscernError
from discern.plan import Plan
from discern.registry import Registry

CARD = {
    "name": "cells",
    "title": "Cells",
    "modality": "Cytology",
    "source": {"kind": "manual", "page": "https://get.example", "place": "train.csv"},
    "adapter": {
        "kind": "csv", "table": "{split}.csv", "splits": ["train", "val"], "columns": {"label": "kind"},
        "labels": {"flat": "benign", "tall": "malignant"},
    },
    "classes": [{"name": "benign", "count": 30}, {"name": "malignant", "count": 10}],
    "expected_n": 40,
    "accepted_n": [41],
    "pool": ["train"],
    "positive_class": "malignant",
    "paper_n": 40,
    "reading": "train.csv, two classes",
    "readings": {
        "all": {
            "reading": "train and val", "pool": ["train", "val"],
            "classes": [{"name": "benign"}, {"name": "malignant"}],
        },
        "shape": {
            "reading": "by shape", "subset": True,
            "adapter": {"columns": {"group": "slide"}, "labels": {"wide": None}},
            "classes": [{"name": "flat"}, {"name": "tall"}, {"name": "round"}],
        },
        "large": {
            "reading": "large pictures",
            "source": [{"kind": "manual", "place": "large.npz"}],
            "adapter": {"kind": "npz", "file": "large.npz"},
        },
    },
    "licence": "none",
}  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    def make(**changes):
        folder = tmp_path / "registry" / "datasets"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cells.yaml").write_text(yaml.safe_dump(CARD | changes, sort_keys=False))
        return Registry([tmp_path / "registry", "registry"])

    return make


def test_a_reading_is_a_card_that_differs_where_it_says(registry):
    card = registry().datasets["cells@all"]
    assert (card.name, card.title, card.reading) == ("cells@all", "Cells [all]", "train and val")
    assert card.pool == ["train", "val"]
    assert not card.readings
    assert card.adapter.labels == {"flat": "benign", "tall": "malignant"}
    # What was counted on other images is not asked of these.
    assert (card.expected_n, card.accepted_n, card.n, card.paper_n) == (None, [], None, None)


def test_columns_are_added_and_labels_are_replaced(registry):
    adapter = registry().datasets["cells@shape"].adapter
    assert adapter.columns == {"label": "kind", "group": "slide"}
    assert adapter.labels == {"wide": None}
    assert adapter.splits == ["train", "val"]


def test_another_kind_of_adapter_replaces_the_whole(registry):
    adapter = registry().datasets["cells@large"].adapter
    assert adapter.model_dump(exclude_unset=True) == {"kind": "npz", "file": "large.npz"}


def test_whose_files_and_whose_features(registry):
    shelf = registry().datasets
    assert [shelf.owner(n) for n in ("cells", "cells@shape", "cells@large")] == [
        "cells",
        "cells",
        "cells@large",
    ]
    assert [shelf.images(n) for n in ("cells@all", "cells@shape")] == ["cells@all", "cells"]
    assert {"cells", "cells@all", "cells@shape", "cells@large"} <= set(shelf.selectable())


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"classes": [{"name": "flat"}]}, "`reading` must say in words what differs"),
        ({"reading": "x", "clases": []}, "reading 'bad': clases: Extra inputs"),
        (
            {"reading": "x", "classes": [{"name": "a"}, {"name": "b"}]},
            "not among the classes: benign, malignant",
        ),
    ],
)
def test_a_mistake_in_a_reading_is_a_mistake_in_the_card(registry, reading, message):
    with pytest.raises(DiscernError, match=message):
        registry(readings={"bad": reading}).datasets["cells"]


def test_only_a_reading_is_a_subset(registry):
    with pytest.raises(DiscernError, match="only a reading can be a subset"):
        registry(subset=True).datasets["cells"]


def study(registry, datasets, **changes):
    content = {
        "study": "s", "models": ["pixels32"], "datasets": datasets,
        "registry": [str(folder) for folder in registry.folders],
    }  # fmt: skip
    return load_study(content | changes)


def test_an_unknown_reading_is_named_before_anything_runs(registry):
    with pytest.raises(DiscernError, match=r"datasets\[1\].*no reading 'shap'; did you mean 'shape'"):
        study(registry(), ["cells", "cells@shap"])


def test_a_subset_shares_features_and_other_readings_have_their_own(registry):
    plan = Plan(study(registry(), ["cells@shape", "cells@all"]))
    shared = paths.FEATURES.format(dataset="cells", model="pixels32")
    own = paths.FEATURES.format(dataset="cells@all", model="pixels32")
    assert plan.features() == [shared, own]
    assert plan.features("cells@shape") == [shared]
    assert plan.inspected("cells@shape") == plan.inspected("cells@all")
    assert plan.expand(paths.MANIFEST) == [
        paths.MANIFEST.format(dataset=d) for d in ("cells@shape", "cells@all")
    ]


def test_files_that_readings_share_are_missed_once(registry):
    shelf = registry()
    chosen = study(
        shelf, ["cells", "cells@shape", "cells@large"], data={"cells@large": "elsewhere/large.npz"}
    )
    found = preflight.missing_inputs(chosen, shelf)
    assert [(m.name, m.place) for m in found] == [
        ("cells", "resources/datasets/cells"), ("cells@large", "elsewhere/large.npz"),
    ]  # fmt: skip
