"""The report of `minimind adapt`: what was decided, learned and forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minimind.eval.forgetting import skill_rows
from minimind.runs.html import Dialogues, Plots, Section, Table, write_report
from minimind.runs.plots import plots, rows
from minimind.runs.read import read_run

SHOWN = 8  # questions of the FAQ


def change_table(results: dict[str, Any]) -> list[list[str]]:
    """A header, then a line for each measurement: before, after, change with its 95% interval."""
    table = [["measured on", "before", "after", "change", "95% interval", "of"]]
    for name, one in results["bits_per_byte"].items():
        kind = "held out" if one["held_out"] else "trained on"
        change = f"{one['difference']:+.4f}", f"{one['low']:+.4f} to {one['high']:+.4f}"
        label = f"{name}, bits per byte"
        table.append(
            [
                label,
                f"{one['before']:.4f}",
                f"{one['after']:.4f}",
                *change,
                f"{one['documents']:,} documents, {kind}",
            ]
        )
    table += [[f"skills: {name}", *row] for name, *row in skill_rows(results["skills"])]
    return table


def answer_table(results: dict[str, Any]) -> list[list[str]]:
    """A header, then for questions trained on and held out: answers as in the FAQ, and how alike they are."""
    table = [["questions of the FAQ", "as in the FAQ before", "after", "alike before", "after", "questions"]]
    names = {"trained": "trained on", "held_out": "held out"}
    for name, one in results["answers"].items():
        shares = (f"{one[kind][side]:.1%}" for kind in ("exact", "alike") for side in ("before", "after"))
        table.append([names[name], *shares, f"{one['questions']:,}"])
    return table


def reason_rows(results: dict[str, Any]) -> list[list[str]]:
    steps = [[training["name"], reason] for training in results["trainings"] for reason in training["reasons"]]
    return [*(["texts", reason] for reason in results["reasons"]), *steps]


def data_rows(results: dict[str, Any]) -> list[list[Any]]:
    """Step, where from, documents, bytes, share of what is trained on."""
    return [
        [training["name"], ", ".join(part["paths"]), part["documents"], part["bytes"], f"{part['share']:.1%}"]
        for training in results["trainings"]
        for part in training["parts"]
    ]


def left_out_rows(results: dict[str, Any]) -> list[list[Any]]:
    return [
        [name, bad["file"], bad["line"], bad["why"]]
        for name, found in results["collected"].items()
        for bad in found["left_out"][:50]
    ]


def report(results: dict[str, Any], out: Path) -> Path:
    """Write `report.html`."""
    changes, answers, left_out = change_table(results), answer_table(results), left_out_rows(results)
    talks = [
        (
            f"{'held out' if one['held_out'] else 'trained on'}; in the FAQ: {one['expected']}; "
            f"before: {one['answer_before']}",
            [*one["question"], {"role": "assistant", "content": one["answer"]}],
        )
        for kind in results["answers"].values()
        for one in kind["samples"][:SHOWN]
    ]
    runs = [read_run(out / training["name"]) for training in results["trainings"]]
    sections: list[Section] = [
        Table("Learned and forgotten", "学到的与忘掉的", changes[1:], changes[0]),
        *([Table("Answers", "回答", answers[1:], answers[0])] if len(answers) > 1 else []),
        Table("Decisions", "决定与理由", reason_rows(results), ["step", "why"]),
        Table("Trained on", "训练数据", data_rows(results), ["step", "files", "documents", "bytes", "share"]),
        *([Table("Left out", "未读入", left_out, ["step", "file", "line", "why"])] if left_out else []),
        *([Dialogues("Answers now", "现在的回答", talks)] if talks else []),
        *(Plots(f"Curves: {run.name}", "曲线", plots([run])) for run in runs),
        Table("Environment", "运行环境", rows({**results["environment"], "command": None})),
    ]
    return write_report(out / "report.html", "MiniMind: your own domain", sections)
