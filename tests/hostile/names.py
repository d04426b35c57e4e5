"""Names that a shell, a template or a page would read as something else, and a study made of them."""

import numpy as np
import yaml
from PIL import Image

#: Each does something where it is not taken as it is. None has a slash: they name one file or folder.
EVIL = {
    "blanks": " a  b ",
    "quotes": 'it\'s "so" `touch pwned`',
    "substitution": "$(touch pwned) ${HOME} $HOME",
    "separators": "a; touch pwned & touch pwned | touch pwned > pwned",
    "newline": "a\ntouch pwned\n",
    "template": "{wildcards.x} {input} {0} {{a}} }{",
    "patterns": "*?[a-z]~!#^",
    "percent": "%s %(x)s %n 100%",
    "back-slashes": "a\\nb\\",
    "dash": "-rf --help",
    "unicode": "é 名前 🙂 \u202egnp.exe",
    "page": "<script>document.title='pwned'<!--",
    "attribute": "\" onmouseover='x' &lt;b&gt;",
    "long": "é" * 120 + "a" * 11,
}
#: Everything at once, for a folder.
ALL = "x$(touch pwned)`touch pwned`;'\"{wildcards.x}{0}*?%s\\ é\n<b>$\\frac{$-"


def picture(path, seed):
    """A small picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def data_set(folder, classes, per_class=12):
    """A folder of pictures per class; their names are all of EVIL, 255 bytes with their suffix at most."""
    names = list(EVIL.values())
    for label, name in enumerate(classes):
        for i in range(per_class):
            picture(folder / name / f"{names[i % len(names)]}.{label}.png", 100 * label + i)


def card(name, classes, title):
    """A data-set card for such a folder."""
    return {
        "name": name,
        "title": title,
        "source": {"kind": "manual", "place": "two folders"},
        "adapter": {"kind": "image_folder"},
        "classes": [{"name": c, "title": f"title of {c}"} for c in classes],
    }


def write_yaml(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


def study(project, place, classes):
    """Write cards and a study of one data set and one model, whose every free text is odd; its file."""
    registry = project / "own registry; $(touch pwned)"
    write_yaml(
        registry / "datasets" / "evil.yaml", card("evil", classes, f"-t {EVIL['page']} {EVIL['quotes']}")
    )
    model = yaml.safe_load((project / "registry" / "models" / "pixels32.yaml").read_text(encoding="utf-8"))
    write_yaml(registry / "models" / "evil_model.yaml", model | {"name": "evil_model", "title": f"-m {ALL}"})
    content = {
        "study": "evil",
        "models": ["pixels32", "evil_model"],
        "datasets": ["evil"],
        "registry": ["registry", registry.name],
        "data": {"evil": str(place)},
        "reference": None,
        "note": ALL,
        "umap": {"n_neighbors": [5], "min_dist": [0.1]},
        "rise": {"datasets": ["evil"], "n_masks": 16, "max_images": 2},
        "compare": {"n_bootstrap": 20},
    }
    file = project / "my 'study'; $(touch pwned) é.yaml"
    write_yaml(file, content)
    return file.name
