"""`minimind adapt`: from a folder of texts and a FAQ to an expert that is served."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from minimind.commands.data_collect import add_fill, read_fill
from minimind.commands.options import add_encoding, add_json, command_parser, count, seed, typed
from minimind.commands.output import print_json, print_table, say_stopped
from minimind.errors import UserError
from minimind.util.typed import CountOrZero, Range

if TYPE_CHECKING:
    from minimind.adapt import Request

EPILOG = """examples:
  minimind adapt --from runs/chat --texts notes/ --faq faq.md --replay texts.jsonl chats.jsonl --serve
  minimind adapt --from runs/chat --faq identity.jsonl --fill name=Mia author='class 3b' --out runs/mia
  minimind adapt --from MODEL --texts law/ --faq law.csv --out runs/law --dry-run

What is decided by rule is printed with its reason. You can decide otherwise: any setting of a training's recipe has
its step before it, for example --texts.batch.seq_len 256, --faq.lora.rank 0 or --faq.optimizer.learning_rate 0.002.
The same command again continues after an interruption."""


def run(argv: list[str]) -> int:
    parser = command_parser(
        "adapt",
        "Make a model an expert of your texts and questions, and report what it learned and forgot.",
        EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from", dest="init_from", required=True, metavar="MODEL", help="model or run to start from"
    )
    parser.add_argument(
        "--texts", nargs="+", type=Path, default=[], metavar="PATH",
        help="files or folders of texts: Markdown, HTML, PDF, txt, jsonl, …",
    )  # fmt: skip
    parser.add_argument(
        "--faq", nargs="+", type=Path, default=[], metavar="PATH",
        help="questions and answers: a table, JSON, or a text (see minimind data import --help)",
    )  # fmt: skip
    parser.add_argument(
        "--replay", nargs="+", type=Path, default=[], metavar="PATH",
        help="general texts and conversations, such as the model was trained on, against forgetting",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything goes (default: runs/expert)")
    parser.add_argument(
        "--pretrain", choices=["yes", "no"], help="whether to train on the texts (default: where there are enough)"
    )
    share = typed(Annotated[float, Range(0, 0.9)])
    parser.add_argument("--replay-share", type=share, metavar="S", help="of general data (default: by rule)")
    parser.add_argument("--passes", type=count, metavar="N", help="over your data (default: by their size)")
    held_out = typed(Annotated[float, Range(0, 0.5)])
    parser.add_argument("--holdout", type=held_out, metavar="S", help="kept from training (default: by rule)")
    parser.add_argument(
        "--questions",
        type=typed(CountOrZero),
        default=100,
        metavar="N",
        help="of each skill, asked twice (default: 100)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of order and held-out documents (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, with time and memory")
    parser.add_argument("--serve", action="store_true", help="serve the expert when it is done")
    add_fill(parser)
    add_encoding(parser)
    add_json(parser)
    options, rest = parser.parse_known_args(argv)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("adapt is one process, which trains on one device; start it without torchrun")

    from minimind.adapt import Request, adapt
    from minimind.quickstart import Stopped
    from minimind.runs.read import default_directory
    from minimind.train.console import TrainingConsole

    named = (
        "init_from",
        "texts",
        "faq",
        "replay",
        "encoding",
        "passes",
        "replay_share",
        "holdout",
        "questions",
        "seed",
    )
    request = Request(
        **{name: getattr(options, name) for name in named},
        pretrain={"yes": True, "no": False}.get(options.pretrain),
        fill=read_fill(options.fill),
        flags=step_flags(rest),
    )
    if options.dry_run:
        with tempfile.TemporaryDirectory() as directory:
            show_plan(request, Path(directory))
        return 0
    out = options.out or default_directory() / "expert"
    try:
        results = adapt(request, out, TrainingConsole(quiet=False))
    except (Stopped, KeyboardInterrupt) as stop:
        return say_stopped(stop)
    if options.json:
        print_json(results)
    else:
        show(results, out)
    if options.serve:
        from minimind.commands import serve

        serve.run([results["model"]])
    return 0


def step_flags(words: list[str]) -> dict[str, list[str]]:
    """`--faq.budget.epochs 3` as the flag `--budget.epochs 3` of the step faq."""
    found: dict[str, list[str]] = {}
    step = None
    for word in words:
        if word.startswith("--"):
            step, dot, key = word[2:].partition(".")
            if step not in ("texts", "faq") or not dot:
                raise UserError(f"unknown option {word}; see `minimind adapt --help`")
            word = f"--{key}"
        if step is None:
            raise UserError(f"unexpected word {word!r}; see `minimind adapt --help`")
        found.setdefault(step, []).append(word)
    return found


def show_plan(request: Request, directory: Path) -> None:
    """What is decided and why, and what each training costs, timed here; nothing is left behind."""
    from minimind.adapt import Workshop
    from minimind.commands.dry_run import forecast
    from minimind.hardware import peak_memory_gb, pick_device
    from minimind.model.count import count_parameters
    from minimind.stages.launch import make_setup, make_trainer
    from minimind.train.console import TrainingConsole
    from minimind.train.strategies import pick_strategy
    from minimind.util.units import duration, size_text

    quiet = TrainingConsole(quiet=True)
    shop = Workshop(request, directory, TrainingConsole(quiet=False))
    steps, reasons = shop.decide(shop.measure(shop.directory, with_skills=False))
    for reason in reasons:
        print(reason)
    for step in steps:
        print(f"\n{step.name}: {step.plan.stage}")
        for reason in step.reasons:
            print(f"  {reason}")
        recipe = step.recipe(shop.directory, request.seed)  # in the place of what the step before it would leave
        trainer = make_trainer(
            make_setup(recipe, directory / step.name, pick_strategy(pick_device(recipe.device)), quiet)
        )
        count, seconds = forecast(trainer)
        peak = size_text(1e9 * peak_memory_gb(trainer.setup.device))
        averages = size_text(8 * count_parameters(recipe.model)["total"])
        print(f"  data    {', '.join(f'{part.documents:,} documents ({part.share:.0%})' for part in step.parts)}")
        print(f"  time    about {duration(count * seconds)} here for {count:,} steps")
        print(f"  memory  {peak} in the timed step, and up to {averages} for the optimizer")


def show(results: dict[str, Any], out: Path) -> None:
    """The tables of the report, and what to do next."""
    from minimind.adapt_report import answer_table, change_table

    print_table(change_table(results))
    if results["answers"]:
        print_table(answer_table(results))
    print(f"report:     {out / 'report.html'}\ntalk to it: minimind chat {results['model']}")
    print(f"serve it:   minimind serve {results['model']}")
