"""A digest changes with what code does, and with nothing else."""

import pytest

from discern import fingerprint

LIBRARY = {
    "__init__.py": "",
    "errors.py": "class E(Exception): ...\n",
    "used.py": "def f(x):\n    return x + 1\n",
    "deeper/__init__.py": "",
    "deeper/below.py": "from discern.used import f\n\n\ndef g(x):\n    return f(x) * 2\n",
    "unrelated.py": "A = 1\n",
    "route.py": "B = 1\n",
}
SCRIPT = "from discern.deeper.below import g\nfrom discern.errors import E\n\nprint(g(1))\n"


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Digest of SCRIPT over LIBRARY after the given files are replaced."""
    monkeypatch.setattr(fingerprint, "SOURCE", tmp_path)

    def compute(script=SCRIPT, modules=(), **changes):
        fingerprint._module.cache_clear()
        fingerprint.code_digest.cache_clear()
        for name, text in (LIBRARY | {k.replace("__", "/") + ".py": v for k, v in changes.items()}).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "script_under_test.py").write_text(script)
        return fingerprint.code_digest(tmp_path / "script_under_test.py", *modules)

    yield compute
    fingerprint._module.cache_clear()
    fingerprint.code_digest.cache_clear()


def test_equal_code_has_an_equal_digest(digest):
    assert digest() == digest()
    assert len(digest()) == 16


@pytest.mark.parametrize(
    "text",
    [
        "# why\ndef f(x):\n    return x + 1  # because\n",
        'def f(x):\n    """Add one."""\n    return x + 1\n',
        '"""Module."""\n\n\ndef f(\n    x,\n):\n    return (x + 1)\n',
    ],
    ids=["comment", "docstring", "layout"],
)
def test_words_and_layout_do_not_count(digest, text):
    assert digest(used=text) == digest()


def test_a_change_two_imports_away_counts(digest):
    assert digest(used="def f(x):\n    return x + 2\n") != digest()


def test_a_change_of_the_script_counts(digest):
    assert digest(script=SCRIPT.replace("g(1)", "g(2)")) != digest()


def test_unrelated_modules_do_not_count(digest):
    assert digest(unrelated="A = 2\n") == digest()


def test_plumbing_does_not_count(digest):
    assert digest(errors="class E(Exception):\n    more = 1\n") == digest()


def test_modules_named_by_hand_count(digest):
    before = digest(modules=("discern.route",))
    assert before != digest()
    assert digest(modules=("discern.route",), route="B = 2\n") != before


def test_a_string_that_is_no_docstring_counts(digest):
    one, two = (f"def f(x):\n    return x + len('{s}')\n" for s in ("a", "bb"))
    assert digest(used=one) != digest(used=two)


def test_value_digest_ignores_key_order():
    assert fingerprint.digest({"a": 1, "b": [1, 2]}) == fingerprint.digest({"b": [1, 2], "a": 1})
    assert fingerprint.digest({"a": [1, 2]}) != fingerprint.digest({"a": [2, 1]})


def test_every_plumbing_module_exists():
    for name in fingerprint.PLUMBING:
        assert (fingerprint.SOURCE / f"{name}.py").is_file(), name
