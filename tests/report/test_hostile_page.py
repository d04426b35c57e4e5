"""No text of a card, a study, a file or a log becomes a part of the page, or a formula of a table."""

import csv
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.survived import survived

from discern import paths
from discern.config import Study
from discern.report.site import render_report
from discern.report.table_latex import latex
from discern.report.tables import build_tables

SCRIPTS = [
    "<script>document.title='pwned'</script>",
    "</script><script>document.title='pwned'</script>",
    "</style><img src=x onerror=document.title='pwned'>",
    "\"><svg onload=document.title='pwned'>",
    "' onmouseover='document.title=1' x='",
    "<iframe src=javascript:document.title='pwned'>",
    "-->]]><b>",
    "&lt;script&gt;",
    "{{ 7 * 7 }}{% raw %}${x}",
    "javascript:document.title='pwned'",
    "<a href=javascript:document.title='pwned'>x</a>",
    '=HYPERLINK("http://x")',
    "@SUM(1) $\\frac{$",
    "\\input{/etc/passwd}\\write18{touch pwned}$%#&_^~{}",
    "| a | b |\n\n# title",
    "\u202egnp.exe",
]


def written(project, evil):
    """The report and all tables of a study in which every free text is ``evil``."""
    free = {"title": evil, "summary": evil, "licence": evil, "citation": evil}
    project.dataset("ct", classes=(evil, "b"), traps=[evil], modality=evil or "CT", terms=evil, **free)
    project.dataset(
        "mr", classes=(f"{evil}.", "b"), group_key=evil, group_note=evil,
        readings={"other": {"reading": evil}}, **free,
    )  # fmt: skip
    for name in ("best", "worst", "lost"):
        project.model(name, notes=[evil], sources=[evil], volume_note=evil, training={"note": evil}, **free)
    for dataset in ("ct", "mr"):
        project.manifest(dataset, [0] * 30 + [1] * 10)
        project.features(dataset, "best", preprocess=evil, device=evil, versions={"torch": evil})
        project.scores("s", dataset, "best", [0.7, 0.8])
        project.scores("s", dataset, "worst", [0.6, 0.7])
    project.audit("ct", n=40, duplicates=[{"sha256": "0", "image_ids": [evil, "i00001"], "labels": [evil]}],
                  corrupt=[{"image_id": evil, "path": evil, "reason": evil}])  # fmt: skip
    project.umap("s", "ct", "best", np.arange(40) % 2)
    log = paths.PROTOCOL_LOG.format(study="s", rule="fit_svm", dataset="ct", model="lost", protocol="image")
    project.write(log, f"error: {evil}\n")
    log = paths.FEATURES_LOG.format(rule="extract_features", dataset="mr", model="lost")
    project.write(log, f"Traceback\nValueError: {evil}\n")
    study = Study(study="s", models=["best", "worst", "lost"], datasets=["ct", "mr", "mr@other"], note=evil)
    out = project.root / "index.html"
    build_tables(study, project.registry, project.root / "tables", root=project.root)
    render_report(study, project.registry, out, root=project.root)
    return out.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Tags with the names of their attributes, in order; those of drawings, in which a title may take
    several lines, only once; and every address."""

    def __init__(self, page):
        super().__init__()
        self.found, self.drawn, self.addresses, self.inside = [], set(), set(), False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.inside |= tag == "svg"
        if self.inside:
            self.drawn.add(tag)
        else:
            self.found.append((tag, tuple(name for name, _ in attributes)))
        self.addresses |= {value for name, value in attributes if name in ("href", "src", "xlink:href")}

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        self.inside &= tag != "svg"


@pytest.mark.parametrize("evil", [" ".join(SCRIPTS[:8]), " ".join(SCRIPTS[8:])], ids=["markup", "other"])
def test_a_text_changes_no_tag_of_the_page(project, evil):
    """The page of an odd text has the tags and attributes of the page of a plain one."""
    page = written(project, evil)
    assert "pwned'</script>" not in page
    plain = written(project, "x")
    assert Tags(page).found == Tags(plain).found
    assert Tags(page).drawn == Tags(plain).drawn
    assert not {a for a in Tags(page).addresses if a.strip().lower().startswith(("javascript:", "vbscript:"))}
    survived("page and tables of hostile titles, classes, reasons and notes", tried=len(SCRIPTS) // 2)


@pytest.mark.parametrize("evil", ["=cmd|' /C calc'!A0", "@SUM(A1)"])
def test_tables_hold_no_formulas(project, evil):
    """A spreadsheet runs a cell that begins with one of these characters, as far as it is no number."""
    written(project, evil)
    files = sorted((project.root / "tables").rglob("*.csv"))
    assert files
    for file in files:
        with file.open(newline="", encoding="utf-8") as handle:
            cells = {cell for row in csv.reader(handle) for cell in row}
        assert not {c for c in cells if c[:1] in "=+-@\t\r" and c and not re.fullmatch(r"-\d+(\.\d+)?", c)}


def test_latex_has_no_commands_of_others(project):
    assert latex("\\input{x}") == r"\textbackslash{}input\{x\}"
    written(project, SCRIPTS[-3])
    for file in (project.root / "tables").rglob("*.tex"):
        text = file.read_text(encoding="utf-8")
        assert r"\input" not in text
        assert r"\write" not in text


@pytest.mark.faults
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_runs_none_of_it(project):
    """A real browser opens the page; every payload would change its title."""
    page = written(project, " ".join(SCRIPTS).replace("\0", ""))
    title = html.unescape(re.search(r"<title>(.*?)</title>", page, re.DOTALL)[1]).strip()
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
         "--dump-dom", f"--user-data-dir={project.root / 'profile'}", (project.root / "index.html").as_uri()],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen = html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]).strip()
    assert seen == title
    assert seen != "pwned"
