"""`minimind train STAGE`: one training, begun or resumed."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from minimind import config
from minimind.commands.options import command_parser
from minimind.errors import UserError

EPILOG = """examples:
  minimind train pretrain --preset tiny --tokenizer tok --data corpus.jsonl --out runs/base
  minimind train sft --from runs/base --data chats.jsonl --out runs/chat --budget.epochs 2
  minimind train lora --from runs/chat --data chats.jsonl --out runs/adapter --lora.rank 8
  minimind train dpo --from runs/chat --data pairs.jsonl --out runs/dpo
  minimind train reward --from runs/chat --data pairs.jsonl --out runs/reward
  minimind train distill --distill.teacher runs/chat --preset tiny --data chats.jsonl --out runs/small
  minimind train reason --from runs/chat --data thoughts.jsonl --out runs/reason
  minimind train grpo --from runs/quickstart/chat --budget.steps 50 --out runs/grpo
  minimind train pretrain --recipe my.yaml --optimizer.learning_rate 0.01 --dry-run

The same command again resumes an unfinished run. `minimind train STAGE --help` lists every setting.
Several devices: torchrun --nproc-per-node 2 -m minimind train …"""


def run(argv: list[str]) -> int:
    from minimind.stages import STAGES

    parser = command_parser(
        "train",
        "Train a model: begin a run, or resume the one in --out.",
        EPILOG,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("stage", nargs="?", help=f"what to train: {', '.join(STAGES)}")
    parser.add_argument("--recipe", action="append", default=[], metavar="NAME|FILE", help="settings in YAML")
    parser.add_argument("--data", nargs="+", metavar="FILE", help="files to train on")
    parser.add_argument("--from", dest="init_from", metavar="MODEL", help="model or run to start from")
    parser.add_argument("--out", metavar="RUN", type=Path, help="run directory (default: runs/STAGE)")
    parser.add_argument("--dry-run", action="store_true", help="show the resolved recipe and what it costs")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.add_argument("-h", "--help", action="store_true", help="this text, then every setting")
    options, flags = parser.parse_known_args(stage_first(argv, STAGES))
    if options.help or options.stage is None:
        parser.print_help()
        if options.stage in STAGES:
            from minimind.recipe import Recipe

            print("\n" + config.describe(Recipe, {"stage": options.stage, **STAGES[options.stage].defaults}))
        return 0 if options.help else 2
    if options.stage not in STAGES:
        raise UserError(f"unknown stage {options.stage!r}; known: {', '.join(STAGES)}")

    from minimind.runs.read import default_directory
    from minimind.stages.launch import launch
    from minimind.stages.resolve import resolve
    from minimind.train.console import TrainingConsole
    from minimind.util.files import check_name

    out = options.out or default_directory() / options.stage
    check_name(out)
    given = {"data": options.data, "init_from": options.init_from}
    recipe = resolve(
        options.stage,
        flags,
        [recipe_file(name) for name in options.recipe],
        {name: value for name, value in given.items() if value},
        out,
    )
    if options.dry_run:
        from minimind.commands.dry_run import show

        show(recipe)
        return 0
    outcome = launch(recipe, out, TrainingConsole(options.quiet))
    if os.environ.get("RANK", "0") != "0":
        return outcome.exit_code  # one process speaks for all
    if outcome.status == "stopped":
        print(f"saved at step {outcome.progress.step}; the same command again continues", file=sys.stderr)
    elif not options.quiet:
        use = f"talk to it: minimind chat {out}"
        if recipe.model.num_labels:
            use = f"measure it: minimind eval reward {out} --data FILE"
        print(f"done: the model is in {out / 'model'}\n{use}", file=sys.stderr)
    return outcome.exit_code


def stage_first(argv: list[str], stages: Collection[str]) -> list[str]:
    """The words with the stage before all options: `--seed 1 pretrain` names one, too."""
    for before, (place, word) in zip(["", *argv], enumerate(argv)):
        if word in stages and (before in ("--dry-run", "--quiet", "-h", "--help") or not before.startswith("-")):
            return [word, *argv[:place], *argv[place + 1 :]]
    return argv


def recipe_file(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that is shipped with the package."""
    if Path(name).is_file():
        return Path(name)
    shipped = resources.files("minimind") / "recipes"
    path = Path(str(shipped / f"{name}.yaml"))
    if path.is_file():
        return path
    known = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir() if entry.name.endswith(".yaml"))
    raise UserError(f"no recipe {name!r}: neither a file nor one of {', '.join(known) or 'ours'}")
