"""Cards and files for the adapter tests."""

from discern.data.adapters import scan
from discern.dataset_card import DatasetCard


def card(kind, classes=("liver", "spleen"), modality="CT", pool=None, drop=(), **adapter):
    """A card with one adapter and the classes by name."""
    return DatasetCard.model_validate(
        {
            "name": "x",
            "modality": modality,
            "source": {"kind": "manual", "place": "p"},
            "adapter": {"kind": kind, **adapter},
            "classes": [{"name": name} for name in classes],
            "pool": pool,
            "drop": list(drop),
        }
    )


def rows(card, root):
    """Rows by image id."""
    return {row.image_id: row for row in scan(card, root).rows}


def labels(card, root):
    return {name: row.label_name for name, row in rows(card, root).items()}


def touch(root, *names):
    """Empty files: adapters decode nothing."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
