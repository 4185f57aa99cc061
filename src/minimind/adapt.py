"""From a folder of texts and a FAQ to an expert: `minimind adapt`.

Read, measure, decide (plan/adaptation.py says why), mix with general data, train, measure again, report what was
learned and what was forgotten. Every step leaves its result in the directory and is passed over when that is there,
so the same call continues after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from minimind.adapt_report import report
from minimind.data.shards.holdout import holdout
from minimind.data.shards.prepare import prepare
from minimind.data.sources.collect import collect
from minimind.data.sources.documents import kind_of, read_texts
from minimind.data.sources.folder import data_files
from minimind.data.sources.mix import Dataset, Part, mix
from minimind.errors import UserError
from minimind.eval.forgetting import Sample, compare, knows_the_world, measure
from minimind.hardware import pick_device, total_memory
from minimind.model import load_model, save_model
from minimind.model.hf.adapter import is_adapter
from minimind.model.hf.config import read_config
from minimind.model.hf.weights import model_directory
from minimind.plan.adaptation import (
    Amount,
    StagePlan,
    held_out_share,
    plan_stage,
    recipe_text,
    replay_share,
    worth_pretraining,
)
from minimind.quickstart import Stopped
from minimind.recipe import Recipe
from minimind.runs.read import read_run
from minimind.stages.launch import environment, launch
from minimind.stages.resolve import resolve
from minimind.tokenizer import Tokenizer
from minimind.train.console import TrainingConsole
from minimind.util.files import whole_directory, write_json, write_text
from minimind.util.json_files import read_json

STAGES = {"texts": "pretrain", "faq": "sft"}  # step -> stage; in this order
KINDS = {"texts": "pretrain", "faq": "chat"}
GENERAL_HELD_OUT = 0.05
MOST_REPLAYS = 4  # of a general document
PASSAGE_TOKENS = 400  # of a passage that long texts are cut into, about


@dataclass(frozen=True)
class Request:
    """What the user gives and asks for; None: by rule.

    flags  further settings of a step's recipe, as typed
    """

    init_from: str
    texts: list[Path] = field(default_factory=list)
    faq: list[Path] = field(default_factory=list)
    replay: list[Path] = field(default_factory=list)
    fill: dict[str, str] = field(default_factory=dict)
    encoding: str | None = None
    pretrain: bool | None = None
    replay_share: float | None = None
    holdout: float | None = None
    passes: int | None = None
    questions: int = 100
    seed: int = 0
    flags: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            name: [*map(str, value)] if isinstance(value, list) else value for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Step:
    """A training that is decided: its plan, the mixture that it trains on, and its recipe's file."""

    name: str
    plan: StagePlan
    parts: list[Part]
    recipe_file: Path
    flags: list[str]

    @property
    def reasons(self) -> list[str]:
        """The plan's, and what the user set otherwise."""
        return [*self.plan.reasons, *([f"set by you: {' '.join(self.flags)}"] if self.flags else [])]

    def recipe(self, init_from: Path, seed: int) -> Recipe:
        data = [str(self.recipe_file.with_name(f"{self.name}.jsonl"))]
        given = {"data": data, "init_from": str(init_from), "seed": seed}
        return resolve(self.plan.stage, self.flags, [self.recipe_file], given)


class Workshop:
    """One call's request and directory, and what is known of the data."""

    def __init__(self, request: Request, out: Path, console: TrainingConsole) -> None:
        if not request.texts and not request.faq:
            raise UserError("give texts to learn (--texts FOLDER), questions and answers (--faq FILE), or both")
        self.request, self.out, self.console = request, out, console
        self.directory = model_directory(request.init_from)
        self.tokenizer = Tokenizer.load(self.directory)
        self.collected = self._collect()
        self.domain = {
            name: prepare([self.file(name)], self.tokenizer, kind)
            for name, kind in KINDS.items()
            if self.file(name).exists()
        }
        self.replay = self._sort_replay()
        self.general = {
            name: prepare(files, self.tokenizer, KINDS[name], encoding=request.encoding)
            for name, files in self.replay.items()
        }

    def file(self, name: str) -> Path:
        return self.out / "data" / f"{name}.jsonl"

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """The content of a JSON file of the directory, made where it is not there."""
        path = self.out / name
        if not path.exists():
            write_json(path, make())
        return read_json(path)

    def _collect(self) -> dict[str, Any]:
        """Texts in passages and the FAQ as conversations; the request beside them, which must stay the same."""
        request, directory = self.request, self.out / "data"
        asked = request.to_dict()
        if not directory.exists():
            self.console.say("reading texts and questions")
            with whole_directory(directory) as partial:
                found = {}
                if request.texts:
                    longest = PASSAGE_TOKENS * self._characters_per_token(request.texts)
                    found["texts"] = collect(
                        request.texts, partial / "texts.jsonl", longest=round(longest), fill=request.fill,
                        encoding=request.encoding,
                    ).to_dict()  # fmt: skip
                if request.faq:
                    found["faq"] = collect(
                        request.faq, partial / "faq.jsonl", faq=True, fill=request.fill, encoding=request.encoding
                    ).to_dict()
                write_json(partial / "data.json", {"request": asked, "collected": found})
        stored = read_json(directory / "data.json")
        changed = [name for name, value in asked.items() if stored["request"].get(name) != value]
        if changed:
            raise UserError(f"{self.out} was begun with another {', '.join(changed)}; choose another --out")
        for name, found in stored["collected"].items():
            count, files, left = found["documents"], len(found["files"]), len(found["left_out"])
            named = f", {left:,} left out, which {directory / 'data.json'} names" if left else ""
            self.console.say(f"{name}: {count:,} documents of {files:,} files{named}")
        return stored["collected"]

    def _characters_per_token(self, paths: list[Path]) -> float:
        """Of the first texts, by this tokenizer."""
        sample = "".join(text[:2000] for text in islice(read_texts(paths, encoding=self.request.encoding), 50))
        return max(0.2, len(sample) / max(1, len(self.tokenizer.encode(sample))))

    def _sort_replay(self) -> dict[str, list[Path]]:
        """General data by the step that they are mixed into."""
        found: dict[str, list[Path]] = {}
        for file in data_files(self.request.replay):
            kind = kind_of(file, self.request.encoding)
            names = [name for name, wanted in KINDS.items() if wanted == ("chat" if kind == "rl" else kind)]
            if not names:
                raise UserError(f"--replay {file}: expected texts or conversations")
            found.setdefault(names[0], []).append(file)
        return found

    def samples(self) -> dict[str, Sample]:
        """What is measured before and after, by name: held-out documents, of a short FAQ those it is trained on."""
        found = {}
        for name, data in self.domain.items():
            share = held_out_share(STAGES[name], len(data), self.request.holdout)[0]
            held_out = holdout(data.hashes, share, self.request.seed)
            chosen = held_out if held_out.any() else ~held_out
            found[f"domain {name}"] = Sample(data, np.flatnonzero(chosen), bool(held_out.any()))
        for name, data in self.general.items():
            held_out = holdout(data.hashes, GENERAL_HELD_OUT, self.request.seed)
            if not held_out.any() or held_out.all():
                raise UserError(
                    f"--replay: {len(data):,} general documents for {name} are too few; give 100 or more"
                )
            found[f"general {name}"] = Sample(data, np.flatnonzero(held_out), True)
        return found

    def measure(self, directory: Path, with_skills: bool = True) -> dict[str, Any]:
        """Of a model: see eval.forgetting.measure."""
        request, questions = self.request, self.request.questions if with_skills else 0
        faq = self.file("faq") if "faq" in self.domain else None
        share = held_out_share("sft", len(self.domain["faq"]), request.holdout)[0] if faq else 0.0
        return measure(directory, self.samples(), faq, share, questions, request.seed)

    def decide(self, before: dict[str, Any]) -> tuple[list[Step], list[str]]:
        """The trainings, each with its mixture and a recipe that can be read and edited; and reasons for none."""
        request, reasons, steps = self.request, list[str](), list[Step]()
        memory = total_memory(pick_device())
        config = read_config(self.directory)
        bits = before["bits_per_byte"]
        for name, data in self.domain.items():
            counts = data.meta["counts"]
            if name == "texts":
                worth, why = worth_pretraining(counts["trained_tokens"])
                if request.pretrain is not None:
                    no = "" if request.pretrain else "no "
                    worth, why = request.pretrain, f"{no}continued pretraining, as asked"
                reasons.append(why)
                if not worth:
                    continue
            long = int(np.quantile(data.lengths, 0.99))
            amount = Amount(len(data), counts["trained_tokens"], counts["tokens"], long)
            replay, why = replay_share(bits[f"domain {name}"], bits.get(f"general {name}"), request.replay_share)
            plan = plan_stage(STAGES[name], config, amount, memory, replay, why, request.holdout, request.passes)
            steps.append(self._mixed(name, plan))
        return steps, reasons

    def _mixed(self, name: str, plan: StagePlan) -> Step:
        """Write the step's mixture and recipe. Held-out general documents are not in it."""
        directory = self.out / "steps"
        recipe_file, parts_file = directory / f"{name}.yaml", directory / f"{name}.json"
        if not parts_file.exists():
            datasets, kept = [Dataset([self.file(name)], 1 - plan.replay, plan.passes)], set[int]()
            if plan.replay:
                datasets.append(Dataset(self.replay[name], plan.replay, MOST_REPLAYS, self.request.encoding))
                hashes = self.general[name].hashes
                kept = set(hashes[holdout(hashes, GENERAL_HELD_OUT, self.request.seed)].tolist())
            parts = mix(datasets, directory / f"{name}.jsonl", self.request.seed, kept, whole_first=True)
            write_text(recipe_file, recipe_text(plan))
            write_json(parts_file, {"parts": [vars(part) for part in parts]})
        parts = [Part(**part) for part in read_json(parts_file)["parts"]]
        return Step(name, plan, parts, recipe_file, self.request.flags.get(name, []))


def adapt(request: Request, out: Path, console: TrainingConsole) -> dict[str, Any]:
    """Do what is not done yet; returns the content of `results.json`. Raises Stopped on Ctrl-C in a training."""
    shop = Workshop(request, out, console)
    console.say("measuring the model as it is")
    before = shop.once("before.json", lambda: shop.measure(shop.directory))
    steps, reasons = shop.decide(before)
    for reason in [*reasons, *(f"{step.name}: {reason}" for step in steps for reason in step.reasons)]:
        console.say(f"  {reason}")
    if not steps:
        raise UserError("nothing is left to train on; add texts or a FAQ, or --pretrain yes")
    model, trainings = shop.directory, []
    for step in steps:
        console.say(f"training on {step.name} ({step.plan.stage})")
        recipe = step.recipe(model, request.seed)
        outcome = launch(recipe, out / step.name, console)
        if outcome.status == "stopped":
            raise Stopped(outcome)
        trainings.append(training_result(out / step.name, step))
        model = model_directory(out / step.name)
        if is_adapter(model) and step is not steps[-1]:  # the next one may train an adapter of its own
            merged = out / f"{step.name}-merged"
            if not merged.exists():
                save_model(load_model(model), merged, shop.tokenizer)
            model = merged
    console.say("measuring the model as it is now")
    after = shop.once("after.json", lambda: shop.measure(model, knows_the_world(before)))
    results = {
        "environment": environment(),
        "request": request.to_dict(),
        "model": str(out / steps[-1].name),
        "collected": shop.collected,
        "reasons": reasons,
        "trainings": trainings,
        **compare(before, after),
    }
    write_json(out / "results.json", results)
    report(results, out)
    return results


def training_result(run: Path, step: Step) -> dict[str, Any]:
    state, summary = read_json(run / "state.json"), read_run(run).summary()
    return {
        "name": step.name,
        "stage": step.plan.stage,
        "settings": step.plan.settings,
        "flags": step.flags,
        "passes": step.plan.passes,
        "replay": step.plan.replay,
        "parts": [vars(part) for part in step.parts],
        "reasons": step.reasons,
        "tokens": state["tokens"],
        "seconds": state["seconds"],
        "bits_per_byte": summary["bits_per_byte"],
    }
