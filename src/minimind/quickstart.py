"""The whole chain in one call: corpus, tokenizer, pretraining, fine-tuning, evaluation, report; on demand
reinforcement learning as well.

Every step leaves its result in a directory of its own and is passed over when that is complete, so the same call
continues after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind.data.sources.documents import read_texts
from minimind.eval.forgetting import compare_skills, skill_rows
from minimind.eval.paired import share_changed
from minimind.eval.skills import evaluate, sample_dialogues
from minimind.hardware import pick_device
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.model.count import count_parameters
from minimind.runs.html import Dialogues, Plots, Section, Table, write_report
from minimind.runs.plots import answers_section, plots, rows
from minimind.runs.read import read_run
from minimind.stages.launch import environment, launch
from minimind.stages.resolve import resolve
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.train import train as train_tokenizer
from minimind.train.console import TrainingConsole
from minimind.train.trainer import Outcome
from minimind.util.files import whole_directory, write_json
from minimind.util.json_files import read_json
from minimind.world import write_world
from minimind.world.questions import questions


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    pretrain_bytes: int
    conversations: int
    vocab_size: int
    questions_per_skill: int
    pretrain_flags: tuple[str, ...] = ()
    sft_flags: tuple[str, ...] = ()
    rl_flags: tuple[str, ...] = ()


FULL = Size(pretrain_bytes=7_500_000, conversations=42_000, vocab_size=2560, questions_per_skill=200)
SMOKE = Size(
    pretrain_bytes=400_000,
    conversations=1_000,
    vocab_size=1024,
    questions_per_skill=10,
    pretrain_flags=("--budget.tokens", "40960", "--compile", "false"),
    sft_flags=("--budget.tokens", "36864", "--compile", "false"),
    rl_flags=("--budget.steps", "4", "--compile", "false", "--rl.questions", "10"),
)

LONGEST_ANSWER = 64  # tokens; right ones have up to 36, and a base model, which never stops, need not be heard out


@dataclass(frozen=True)
class Stopped(Exception):
    """A training was interrupted and saved."""

    outcome: Outcome


def quickstart(
    out: Path, size: Size, seed: int, recipe_file: Callable[[str], Path], rl: bool = False
) -> dict[str, Any]:
    """Run what is not done yet; returns the content of `results.json`. Raises Stopped on Ctrl-C in a training.

    rl  whether the chat model learns on by reinforcement, on the skill of the recipe quickstart-rl
    """
    world, tokenizer_dir = out / "world", out / "tokenizer"
    console, total = TrainingConsole(quiet=False), 8 if rl else 6
    if not world.exists():
        console.say(f"[1/{total}] writing the corpus")
        with whole_directory(world) as partial:
            write_world(partial, seed, size.pretrain_bytes, size.conversations, per_skill=size.questions_per_skill)
    if not tokenizer_dir.exists():
        console.say(f"[2/{total}] training a tokenizer of {size.vocab_size} ids")
        texts = read_texts([world / "pretrain.jsonl", world / "sft.jsonl"])
        with whole_directory(tokenizer_dir) as partial:
            train_tokenizer(texts, size.vocab_size).save(partial)
    files = {stage: {"data": [str(world / f"{stage}.jsonl")]} for stage in ("pretrain", "sft")}
    plan: list[tuple[str, str, str, tuple[str, ...], dict[str, Any]]] = [
        (
            "base",
            "pretrain",
            "pretrain",
            size.pretrain_flags,
            {"tokenizer": str(tokenizer_dir), **files["pretrain"]},
        ),
        ("chat", "sft", "sft", size.sft_flags, {"init_from": str(out / "base"), **files["sft"]}),
    ]
    if rl:
        plan.append(("rl", "rl", "grpo", size.rl_flags, {"init_from": str(out / "chat")}))
    results: dict[str, Any] = {"environment": environment(), "seed": seed, "stages": []}
    for number, (name, file, stage, flags, given) in enumerate(plan):
        console.say(f"[{3 + 2 * number}/{total}] {stage}")
        recipe = resolve(stage, list(flags), [recipe_file(f"quickstart-{file}")], {**given, "seed": seed})
        outcome = launch(recipe, out / name, console)
        if outcome.status == "stopped":
            raise Stopped(outcome)
        console.say(f"[{4 + 2 * number}/{total}] {8 * size.questions_per_skill} held-out questions")
        results["stages"].append(_result(out / name, stage, seed, size.questions_per_skill))
    if rl:
        before, after = (result["rights"] for result in results["stages"][-2:])
        results["rl"] = {"trained": recipe.rl.skills, "skills": compare_skills(before, after)}
    write_json(out / "results.json", results)
    _report(out, results)
    return results


def _result(run: Path, stage: str, seed: int, per_skill: int) -> dict[str, Any]:
    """What a finished training reached: speed, held-out bits per byte, skills, sample dialogues; made once."""
    path = run / "result.json"
    if path.exists() and "rights" in (result := read_json(path)):
        return result
    device = pick_device()
    model, tokenizer = load_model(run / "model", device=device), Tokenizer.load(run / "model")
    engine = Engine(model, max_batch=128)
    report = evaluate(engine, tokenizer, questions(seed, per_skill), LONGEST_ANSWER)
    state = read_json(run / "state.json")
    result = {
        "stage": stage,
        "parameters": count_parameters(model.config)["total"],
        "tokens": state["tokens"],
        "seconds": state["seconds"],
        "tokens_per_second": state["tokens"] / state["seconds"],
        "bits_per_byte": read_run(run).summary()["bits_per_byte"],
        "skills": report.to_dict(),
        "rights": report.rights,
        "dialogues": sample_dialogues(engine, tokenizer),
    }
    write_json(path, result)
    return result


def skill_table(results: dict[str, Any]) -> list[list[str]]:
    """A header, then for each skill the accuracy after every stage with its 95% interval; last the mean."""
    stages = results["stages"]
    names = [*stages[0]["skills"]["skills"], "mean"]
    table = [["skill", *(f"after {stage['stage']}" for stage in stages)]]
    for name in names:
        reports = [stage["skills"] for stage in stages]
        scores = [report["macro"] if name == "mean" else report["skills"][name] for report in reports]
        table.append([name, *(f"{s['accuracy']:.1%} ({s['low']:.1%} to {s['high']:.1%})" for s in scores)])
    return table


def stage_table(results: dict[str, Any]) -> list[list[str]]:
    """A header, then a line for each stage: tokens, speed, held-out bits per byte, mean accuracy."""
    table = [["stage", "tokens", "minutes", "tokens/s", "bits/byte", "skills"]]
    for stage in results["stages"]:
        table.append(
            [
                stage["stage"],
                f"{stage['tokens']:,}",
                f"{stage['seconds'] / 60:.1f}",
                f"{stage['tokens_per_second']:,.0f}",
                "–" if stage["bits_per_byte"] is None else f"{stage['bits_per_byte']:.3f}",
                f"{stage['skills']['macro']['accuracy']:.1%}",
            ]
        )
    return table


def rl_table(results: dict[str, Any]) -> list[list[str]]:
    """A header, then what reinforcement learning changed in each skill, on the same questions; last the mean."""
    header = ["skill", "before", "after", "change", "95% interval", "on"]
    return [header, *skill_rows(results["rl"]["skills"])]


def rl_sentence(results: dict[str, Any]) -> str:
    """What reinforcement learning did to the skills it trained, and to the others."""
    trained, skills = results["rl"]["trained"], results["rl"]["skills"]
    before, after = (
        [right for name, rights in stage["rights"].items() if name not in trained for right in rights]
        for stage in results["stages"][-2:]
    )
    changed = [f"{name} from {skills[name]['before']:.1%} to {skills[name]['after']:.1%}" for name in trained]
    doubt = "" if all(skills[name]["low"] > 0 for name in trained) else ", which may be chance"
    others, low, high = (f"{share:+.1%}" for share in share_changed(before, after))
    return (
        f"Reinforcement learning took {' and '.join(changed)}{doubt}; the other skills changed by {others} "
        f"(95% interval {low} to {high})."
    )


def _report(out: Path, results: dict[str, Any]) -> None:
    stages, skills = stage_table(results), skill_table(results)
    talks = results["stages"][-1]["dialogues"]
    names = ("base", "chat", "rl") if "rl" in results else ("base", "chat")
    runs = [read_run(out / name) for name in names]
    sections: list[Section] = [
        Table("Stages", "各阶段", stages[1:], stages[0]),
        Table("Held-out questions", "留出题目", skills[1:], skills[0]),
        *_rl_sections(out, results),
        Dialogues("Sample dialogues", "对话样例", [(f"{n}", talk) for n, talk in enumerate(talks, start=1)]),
        *(Plots(f"Curves: {run.name}", "曲线", plots([run])) for run in runs),
        Table("Environment", "运行环境", rows({**results["environment"], "command": None})),
    ]
    write_report(out / "report.html", "MiniMind quickstart", sections)


def _rl_sections(out: Path, results: dict[str, Any]) -> list[Section]:
    if "rl" not in results:
        return []
    header, *changes = rl_table(results)
    return [
        Table("What reinforcement learning changed", "强化学习带来的变化", changes, header),
        *answers_section(read_run(out / "rl")),
    ]
