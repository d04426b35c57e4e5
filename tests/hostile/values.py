"""Hypothesis strategies for odd values and damaged bytes, shared by the tests of this folder."""

from hypothesis import strategies as st

NAMES = [
    "",
    " ",
    "-",
    "--",
    "-rf",
    ".",
    "..",
    "../x",
    "../../etc/passwd",
    "/etc/passwd",
    "~",
    "a/b",
    "a\\b",
    "C:\\x",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| cat",
    "&& x",
    "a\nb",
    "a\0b",
    "a\tb",
    "a'b",
    'a"b',
    "*",
    "?",
    "[a]",
    "{a}",
    "{{a}}",
    "{input}",
    "{wildcards.x}",
    "%s",
    "%",
    "%(x)s",
    "\\",
    "\\n",
    "é",
    "é" * 127,
    "\u202eabc",
    "\ufeffa",
    "\u0000",
    "名前",
    "🙂",
    "a" * 255,
    "a" * 256,
    "a" * 70_000,
    "<script>alert(1)</script>",
    "shared",
    "null",
    "yes",
    "NaN",
    "@",
    "a@",
    "@a",
    "a@b@c",
    "A",
    "a-b",
    "a b",
    "\x1b[2J",
    "=cmd|' /C calc'!A0",
    "(" * 2000,
    "a{99999999999999999999}",
    "(?P<label>",
    "(a+)+$",
    "[",
    "(?P<image>x)",
    "{stem}",
    "{stem}{stem}",
    "x:y",
    "os:system",
    "discern.errors:problem",
    ":",
    "a.b:c",
    "package.module:function",
    "2024-01-01",
    "12:30:45",
]

names = st.sampled_from(NAMES) | st.text(max_size=40)
numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400]),
    st.integers(),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e308, 5e-324, float("inf"), float("nan")]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, names, st.dates(), st.binary(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw, whole):
    """``whole`` bytes cut short, with flipped bits, overwritten, repeated or replaced."""
    kind = draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "zero", "double", "other"]))
    at = draw(st.integers(0, len(whole)))
    if kind == "cut":
        return whole[:at]
    if kind == "flip":
        body = bytearray(whole)
        for place in draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
            body[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(body)
    if kind == "overwrite":
        new = draw(st.binary(min_size=1, max_size=16))
        return whole[:at] + new + whole[at + len(new) :]
    if kind == "insert":
        return whole[:at] + draw(st.binary(min_size=1, max_size=16)) + whole[at:]
    if kind == "zero":
        length = draw(st.integers(1, max(1, len(whole) - at)))
        return whole[:at] + bytes(length) + whole[at + length :]
    return whole + whole if kind == "double" else draw(st.binary(max_size=64))
