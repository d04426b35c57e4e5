"""A laid-out table as CSV, Markdown, HTML fragment and plain text; LaTeX has its own module."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Callable
from html import escape

from discern.report.layout import Table, TableCell
from discern.report.table_latex import to_latex
from discern.report.table_words import CHANCE, chance_texts, key_line, published_text


def to_csv(table: Table) -> str:
    """One row per model; mean and sd per data set in percent, four decimals, empty where none.

    Of gaps: the gap in points, its interval, and the score by either protocol.
    """
    fields = ["mean", "sd"] + (["published_mean", "published_sd", "difference"] if table.published else [])
    if table.kind == "gaps":
        fields = ["gap", "low", "high", "image", "group"]
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
    if gap := cell.gap:
        return ["" if v is None else f"{v:.4f}" for v in (gap.value, gap.low, gap.high, gap.image, gap.group)]
    values = [
        *((s.mean, s.sd) if (s := cell.score) else (None, None)),
        *((p.mean, p.sd) if (p := cell.published) else (None, None)),
        cell.difference,
    ]
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
        lines.append(f"| *{CHANCE}* | {' | '.join(chance_texts(table))} |")
    lines += ["", key_line(table, "**{}**", "<u>{}</u>"), *table.legend, ""]
    lines += [*(f"- {_md(line)}" for line in table.readings), ""]
    for note in table.notes:
        log = f" (`{note.log}`)" if note.log else ""
        lines.append(f"{note.number}. {_md(note.text)}{log}")
    return "\n".join(lines).rstrip() + "\n"


def _md_cell(cell: TableCell) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(cell.text) + cell.dagger
    note = f"<sup>{cell.note}</sup>" if cell.note else ""
    return f"{text}{note} {published_text(cell)}".strip()


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
        shares = "".join(f"<td>{text}</td>" for text in chance_texts(table))
        body.append(f'<tr class="chance"><th scope="row">{CHANCE}</th>{shares}</tr>')
    notes = "".join(
        f'<li id="{key}-{n.number}" value="{n.number}">{escape(n.text)}'
        + (f" <code>{escape(n.log)}</code>" if n.log else "")
        + "</li>"
        for n in table.notes
    )
    legend = " ".join(escape(line) for line in table.legend)
    readings = "".join(f"<li>{escape(line)}</li>" for line in table.readings)
    marks = key_line(table, "<strong>{}</strong>", "<u>{}</u>")
    return (
        f'<figure class="table" id="{key}">\n<div class="scroll" tabindex="0" role="region" '
        f'aria-labelledby="{key}-title">\n<table>\n<caption id="{key}-title">{escape(table.title)}</caption>'
        f'\n<thead><tr><th scope="col">Model</th>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + f"\n</tbody>\n</table>\n</div>\n<figcaption>{marks} {legend}{f'<ol>{notes}</ol>' if notes else ''}"
        + (f'<ul class="readings">{readings}</ul>' if readings else "")
        + "</figcaption>\n</figure>\n"
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
        body.append([CHANCE, *(f"{text}   " if text else "" for text in chance_texts(table))])
    full = [row for row in head + body if len(row) > 1]
    widths = [max(len(row[i]) for row in full) for i in range(len(table.columns) + 1)]
    widths[0] = max(widths[0], *(len(row[0]) for row in body))

    def line(row: list[str]) -> str:
        cells = [text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=False)]
        return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [table.title, rule, *map(line, head), rule, *map(line, body), rule]
    marks = "* the interval excludes 0." if table.kind == "gaps" else "* best, + second best."
    below = [marks, *table.legend, *table.readings]
    lines += [wrapped for text in below for wrapped in textwrap.wrap(text, max(len(rule), 72))]
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
