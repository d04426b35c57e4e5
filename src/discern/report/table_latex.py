"""A laid-out table as LaTeX with booktabs."""

from __future__ import annotations

import re

from discern.report.layout import Table, TableCell
from discern.report.table_words import CHANCE, chance_texts, key_line, published_text

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
        lines += [r"\midrule", rf"\textit{{{CHANCE}}} & {' & '.join(chance_texts(table))} \\"]
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\raggedright\footnotesize"]
    lines.append(key_line(table, r"\textbf{{{}}}", r"\underline{{{}}}"))
    lines += [latex(line) for line in table.legend]
    lines += [rf"\par {latex(line)}" for line in table.readings]
    for note in table.notes:
        log = rf" (\texttt{{{latex(note.log)}}})" if note.log else ""
        lines.append(rf"\par $^{{{note.number}}}$ {latex(note.text)}{log}")
    return "\n".join([*lines, r"\end{table*}", ""])


def _latex_cell(cell: TableCell) -> str:
    text = {0: "%s", 1: r"\textbf{%s}", 2: r"\underline{%s}"}[cell.rank] % latex(cell.text)
    note = f"$^{{{cell.note}}}$" if cell.note else ""
    dagger = f"$^{latex(cell.dagger).strip('$')}$" if cell.dagger else ""
    return f"{text}{dagger}{note} {latex(published_text(cell))}".strip()
