"""A report as one HTML file: no script, nothing loaded from elsewhere, headings in English and Chinese.

Every text is escaped; only plots, which `minimind.runs.svg` draws, are put in as they are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from minimind.util.files import write_text
from minimind.util.units import number_text

STYLE = """
:root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --ink: #1b1f24; --quiet: #5a636e;
  --edge: #dfe3e8; --user: #e3effa; --assistant: #eef1f4; }
@media (prefers-color-scheme: dark) { :root { --ground: #0e1013; --card: #16191d; --ink: #e8eaed;
  --quiet: #a0a8b2; --edge: #2e343b; --user: #17334d; --assistant: #23282e; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 24px 16px 48px; background: var(--ground); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC",
  sans-serif; }
main { max-width: 1180px; margin: 0 auto; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 20px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 12px; }
h2 span { color: var(--quiet); font-weight: 400; margin-left: 8px; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 18px 20px;
  margin: 0 0 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 18px 5px 0; text-align: left; vertical-align: top; border-top: 1px solid var(--edge); }
tr:first-child > * { border-top: 0; }
th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 14px; }
.plots svg { width: 100%; height: auto; }
.dialogues { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 18px; }
.caption { color: var(--quiet); font-size: 13px; }
.turn { border-radius: 10px; padding: 8px 12px; margin: 6px 0; max-width: 92%; width: fit-content;
  max-height: 30em; overflow-y: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--assistant); }
.user { background: var(--user); margin-left: auto; }
.system, .tool { background: none; border: 1px dashed var(--edge); color: var(--quiet); font-size: 13px; }
.thinking { color: var(--quiet); border-left: 3px solid var(--edge); padding-left: 10px; margin-bottom: 6px; }
.call { font: 12.5px/1.5 ui-monospace, monospace; }
@media (max-width: 600px) { body { padding: 14px 8px 32px; } section { padding: 14px 12px; }
  h1 { font-size: 21px; } }
"""


@dataclass(frozen=True)
class Table:
    """Rows of cells below column names; without names the first cell of a row is its heading."""

    heading: str
    chinese: str
    rows: Sequence[Sequence[Any]]
    columns: Sequence[str] = ()

    def html(self) -> str:
        head = "".join(f"<th{number_class(self.rows, i)}>{text(c)}</th>" for i, c in enumerate(self.columns))
        body = "".join(
            f"<tr>{''.join(self.cell(value, i) for i, value in enumerate(row))}</tr>" for row in self.rows
        )
        return f'<div class="scroll"><table>{f"<tr>{head}</tr>" if head else ""}{body}</table></div>'

    def cell(self, value: Any, column: int) -> str:
        if column == 0 and not self.columns:
            return f"<th>{text(value)}</th>"
        return f"<td{' class=number' if self.columns and is_number(value) else ''}>{text(value)}</td>"


@dataclass(frozen=True)
class Plots:
    """Drawings made by `minimind.runs.svg.line_plot`."""

    heading: str
    chinese: str
    plots: Sequence[str]

    def html(self) -> str:
        return f'<div class="plots">{"".join(self.plots)}</div>'


@dataclass(frozen=True)
class Dialogues:
    """Conversations in the published schema (role, content, reasoning_content, tool_calls), each with a caption."""

    heading: str
    chinese: str
    dialogues: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]

    def html(self) -> str:
        shown = (
            f'<div><div class="caption">{text(caption)}</div>{"".join(map(turn, messages))}</div>'
            for caption, messages in self.dialogues
        )
        return f'<div class="dialogues">{"".join(shown)}</div>'


Section = Table | Plots | Dialogues


def write_report(path: str | Path, title: str, sections: Sequence[Section]) -> Path:
    """Write the report to `path`, whole or not at all, and return its path."""
    body = "".join(
        f"<section><h2>{text(section.heading)}<span>{text(section.chinese)}</span></h2>{section.html()}</section>\n"
        for section in sections
    )
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body><main>\n<h1>{text(title)}</h1>\n{body}</main></body>\n</html>\n"
    )
    return write_text(Path(path), page)


def turn(message: Mapping[str, Any]) -> str:
    """One message as a bubble: thinking, then the text, then tool calls."""
    role = message.get("role")
    parts = [text(message.get("content") or "")]
    if thinking := message.get("reasoning_content"):
        parts.insert(0, f'<div class="thinking">{text(thinking)}</div>')
    if calls := message.get("tool_calls"):
        calls = calls if isinstance(calls, str) else json.dumps(calls, ensure_ascii=False)
        parts.append(f'<div class="call">{text(calls)}</div>')
    known = role if role in ("system", "user", "assistant", "tool") else "assistant"
    return f'<div class="turn {known}">{"".join(parts)}</div>'


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_class(rows: Sequence[Sequence[Any]], column: int) -> str:
    """Aligns a column's name with its values: to the right when the first value is a number."""
    return " class=number" if rows and is_number(rows[0][column]) else ""


def text(value: Any) -> str:
    """A value as escaped text: numbers to four digits after the point, nothing for None."""
    if value is None:
        return ""
    if is_number(value):
        value = number_text(value)
    # A lone half of a surrogate pair, which a broken model can produce through JSON, has no UTF-8 form.
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"))
