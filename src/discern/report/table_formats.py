"""A laid-out table as CSV, Markdown, LaTeX (booktabs), HTML fragment and plain text."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Callable
from html import escape

from discern.report.layout import Table, TableCell

CHANCE = "Largest class"


def published_text(cell: TableCell) -> str:
    """'(79, −0.7)', '(79)' where nothing was measured, '' where nothing was published.

    Published values keep the decimals that they were printed with.
    """
    if cell.published is None:
        return ""
    if cell.difference is None:
        return f"({cell.published.mean:g})"
    return f"({cell.published.mean:g}, {cell.difference:+.1f})".replace("-", "−")


def _chance_texts(table: Table) -> list[str]:
    return ["" if c.largest_class is None else f"{c.largest_class:.1f}" for c in table.columns]


def to_csv(table: Table) -> str:
    """One row per model; mean and sd per data set in percent, four decimals, empty where none."""
    fields = ["mean", "sd"] + (["published_mean", "published_sd", "difference"] if table.published else [])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", "model", *(f"{c.dataset}.{f}" for c in table.columns for f in fields)])
    for _, rows in table.sections:
        for row in rows:
            writer.writerow([row.group, row.model, *(v for c in row.cells for v in _values(c, len(fields)))])
    if table.chance:
        padding = [""] * (len(fields) - 1)
        shares = ["" if c.largest_class is None else f"{c.largest_class:.4f}" for c in table.columns]
        writer.writerow(["", "largest_class", *(v for share in shares for v in [share, *padding])])
    return out.getvalue()


def _values(cell: TableCell, length: int) -> list[str]:
    values = [cell.score and cell.score.mean, cell.score and cell.score.sd]
    values += [cell.published and cell.published.mean, cell.published and cell.published.sd, cell.difference]
    return ["" if v is None else f"{v:.4f}" for v in values[:length]]


def _md(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def to_markdown(table: Table) -> str:
    """Pipe table; best **bold**, second best <u>underlined</u>, footnotes below."""
    heads = [f"{_md(c.title)} ({_md(c.modality)})<br>{c.size}, {c.classes}" for c in table.columns]
    lines = [
        f"**{table.title}**",
        "",
        f"| Model | {' | '.join(heads)} |",
        "|:---|" + "---:|" * len(heads),
    ]
    for heading, rows in table.sections:
        lines.append(f"| **{heading}** |" + " |" * len(heads))
        for row in rows:
            lines.append(f"| {_md(row.title)} | {' | '.join(_md_cell(c) for c in row.cells)} |")
    if table.chance:
        lines.append(f"| *{CHANCE}* | {' | '.join(_chance_texts(table))} |")
    lines += ["", "Best **bold**, second best <u>underlined</u>.", *table.legend, ""]
    for note in table.notes:
        log = f" (`{note.log}`)" if note.log else ""
        lines.append(f"{note.number}. {_md(note.text)}{log}")
    return "\n".join(lines).rstrip() + "\n"


def _md_cell(cell: TableCell) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(cell.text) + cell.dagger
    note = f"<sup>{cell.note}</sup>" if cell.note else ""
    return f"{text}{note} {published_text(cell)}".strip()


# --------------------------------------------------------------------------- LaTeX

_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "—": "---",
    "–": "--",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
}


def latex(text: str) -> str:
    """Escape for LaTeX; what plain pdfLaTeX cannot set (bars of a progress line) becomes '?'."""
    return "".join(_LATEX.get(c, c if " " <= c <= "~" or "\u00a0" <= c <= "\u017f" else "?") for c in text)


def to_latex(table: Table) -> str:
    """A ``table*`` environment; needs booktabs and graphicx."""
    columns = len(table.columns)
    heads = [
        [latex(c.title) for c in table.columns],
        [latex(f"({c.modality})") for c in table.columns],
        [c.size for c in table.columns],
        [c.classes for c in table.columns],
    ]
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', table.name)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * columns}}}",
        r"\toprule",
        *(f" & {' & '.join(head)} \\\\" for head in heads),
    ]
    for heading, rows in table.sections:
        lines += [r"\midrule", rf"\multicolumn{{{columns + 1}}}{{l}}{{\textit{{{latex(heading)}}}}} \\"]
        lines += [f"{latex(r.title)} & {' & '.join(_latex_cell(c) for c in r.cells)} \\\\" for r in rows]
    if table.chance:
        lines += [r"\midrule", rf"\textit{{{CHANCE}}} & {' & '.join(_chance_texts(table))} \\"]
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\raggedright\footnotesize"]
    lines.append(r"Best \textbf{bold}, second best \underline{underlined}.")
    lines += [latex(line) for line in table.legend]
    for note in table.notes:
        log = rf" (\texttt{{{latex(note.log)}}})" if note.log else ""
        lines.append(rf"\par $^{{{note.number}}}$ {latex(note.text)}{log}")
    return "\n".join([*lines, r"\end{table*}", ""])


def _latex_cell(cell: TableCell) -> str:
    text = {0: "%s", 1: r"\textbf{%s}", 2: r"\underline{%s}"}[cell.rank] % latex(cell.text)
    note = f"$^{{{cell.note}}}$" if cell.note else ""
    dagger = f"$^{latex(cell.dagger).strip('$')}$" if cell.dagger else ""
    return f"{text}{dagger}{note} {latex(published_text(cell))}".strip()


def to_html(table: Table) -> str:
    """A ``<figure>`` with its own scroll box; classes are styled by the report, plain without."""
    key = re.sub(r"[^a-z0-9]+", "-", table.name)
    heads = "".join(
        f'<th scope="col">{escape(c.title)}<small>({escape(c.modality)})</small>'
        f"<small>{c.size}<br>{c.classes}</small></th>"
        for c in table.columns
    )
    body = []
    for heading, rows in table.sections:
        body.append(
            f'<tr class="group"><th scope="rowgroup" colspan="{len(table.columns) + 1}">'
            f"<span>{escape(heading)}</span></th></tr>"
        )
        for row in rows:
            cells = "".join(_html_cell(c, key) for c in row.cells)
            body.append(f'<tr><th scope="row">{escape(row.title)}</th>{cells}</tr>')
    if table.chance:
        shares = "".join(f"<td>{text}</td>" for text in _chance_texts(table))
        body.append(f'<tr class="chance"><th scope="row">{CHANCE}</th>{shares}</tr>')
    notes = "".join(
        f'<li id="{key}-{n.number}" value="{n.number}">{escape(n.text)}'
        + (f" <code>{escape(n.log)}</code>" if n.log else "")
        + "</li>"
        for n in table.notes
    )
    legend = " ".join(escape(line) for line in table.legend)
    return (
        f'<figure class="table" id="{key}">\n<div class="scroll" tabindex="0" role="region" '
        f'aria-labelledby="{key}-title">\n<table>\n<caption id="{key}-title">{escape(table.title)}</caption>'
        f'\n<thead><tr><th scope="col">Model</th>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody>\n</table>\n</div>\n<figcaption>Best <strong>bold</strong>, second best "
        f"<u>underlined</u>. {legend}{f'<ol>{notes}</ol>' if notes else ''}</figcaption>\n</figure>\n"
    )


def _html_cell(cell: TableCell, key: str) -> str:
    text = {0: "{}", 1: "<strong>{}</strong>", 2: "<u>{}</u>"}[cell.rank].format(escape(cell.text))
    dagger = f"<sup>{cell.dagger}</sup>" if cell.dagger else ""
    note = f'<sup><a href="#{key}-{cell.note}">{cell.note}</a></sup>' if cell.note else ""
    published = f"<small>{escape(published_text(cell))}</small>" if cell.published else ""
    kind = ' class="empty"' if cell.empty else ""
    return f"<td{kind}>{text}{dagger}{note}{published}</td>"


def to_text(table: Table) -> str:
    """Aligned plain text for a terminal; ``*`` best, ``+`` second best."""
    head = [
        ["Model", *(c.dataset for c in table.columns)],
        ["", *(c.size for c in table.columns)],
        ["", *(c.classes for c in table.columns)],
    ]
    body: list[list[str]] = []
    for heading, rows in table.sections:
        body.append([heading])
        body += [["  " + row.title, *(_text_cell(c) for c in row.cells)] for row in rows]
    if table.chance:
        body.append([CHANCE, *(f"{text}   " if text else "" for text in _chance_texts(table))])
    full = [row for row in head + body if len(row) > 1]
    widths = [max(len(row[i]) for row in full) for i in range(len(table.columns) + 1)]
    widths[0] = max(widths[0], *(len(row[0]) for row in body))

    def line(row: list[str]) -> str:
        cells = [text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=False)]
        return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [table.title, rule, *map(line, head), rule, *map(line, body), rule]
    legend = ["* best, + second best.", *table.legend]
    lines += [wrapped for text in legend for wrapped in textwrap.wrap(text, max(len(rule), 72))]
    lines += [f"[{n.number}] {n.text}" + (f" ({n.log})" if n.log else "") for n in table.notes]
    return "\n".join(lines) + "\n"


def _text_cell(cell: TableCell) -> str:
    """Three places stay free behind the number for rank and dagger, so that decimals line up."""
    note = f"[{cell.note}]" if cell.note else ""
    marks = f"{ {0: '', 1: '*', 2: '+'}[cell.rank] }{cell.dagger}"
    published = f"{published_text(cell):<13}" if cell.published else ""
    return f"{cell.text}{note}{marks:<3}{published}"


FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
    "html": to_html,
    "txt": to_text,
}
