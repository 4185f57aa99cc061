"""`minimind quickstart`: from an empty machine to a model that talks."""

from __future__ import annotations

from pathlib import Path

from minimind.commands.options import add_json, command_parser, seed
from minimind.commands.output import print_json, print_table, say_stopped

EPILOG = """examples:
  minimind quickstart                  25 minutes on two busy cores in fp32
  minimind quickstart --rl             and reinforcement learning, in six minutes more
  minimind quickstart --smoke          the whole chain in a minute; the model learns next to nothing

Ctrl-C stops and saves; the same command again goes on."""


def run(argv: list[str]) -> int:
    parser = command_parser(
        "quickstart",
        "Generate a corpus, train a tokenizer and a small model on it, teach it to chat, examine it.",
        EPILOG,
    )
    parser.add_argument(
        "--rl", action="store_true", help="then let the model learn from its own answers (reinforcement learning)"
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny version that only shows that all works")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything goes (default: runs/quickstart)")
    parser.add_argument("--seed", type=seed, default=0, help="of corpus, weights and order (default: 0)")
    add_json(parser)
    options = parser.parse_args(argv)

    from minimind.commands.train import recipe_file
    from minimind.quickstart import FULL, SMOKE, Stopped, quickstart
    from minimind.runs.read import default_directory

    out = options.out or default_directory() / ("quickstart-smoke" if options.smoke else "quickstart")
    try:
        results = quickstart(out, SMOKE if options.smoke else FULL, options.seed, recipe_file, options.rl)
    except (Stopped, KeyboardInterrupt) as stop:
        return say_stopped(stop)
    if options.json:
        print_json(results)
    else:
        show(results, out)
    return 0


def show(results: dict, out: Path) -> None:
    """The table, a few dialogues, and what to do next."""
    from rich.console import Console

    from minimind.quickstart import rl_sentence, rl_table, skill_table, stage_table

    print_table(stage_table(results))
    print_table(skill_table(results))
    console = Console()
    if "rl" in results:
        print_table(rl_table(results))
        console.print(rl_sentence(results), end="\n\n", highlight=False)
    for talk in results["stages"][-1]["dialogues"][:4]:
        for message in talk:
            console.print(f"{message['role']:>9}: {message['content']}", markup=False, highlight=False)
        console.print()
    run = out / ("rl" if "rl" in results else "chat")
    print(f"report:     {out / 'report.html'}\ntalk to it: minimind chat {run}")
