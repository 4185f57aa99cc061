"""`minimind merge`: one model from several of the same shape."""

from __future__ import annotations

from pathlib import Path

from minimind.commands.options import command_parser, seed, typed

EPILOG = """examples:
  minimind merge runs/medical runs/chat --out merged
  minimind merge runs/medical runs/chat --weights 0.3 0.7 --out merged
  minimind merge runs/medical runs/chat --method slerp --t 0.7 --out merged
  minimind merge runs/medical runs/law --base runs/chat --method task --weights 0.6 0.6 --out expert

MODELS are model or run directories of one shape and one tokenizer. An adapter is merged into its base first; only
the linear mean of several adapters of one base is an adapter of it.
merge.json in DIR records what was merged, and how."""

number = typed(float)


def run(argv: list[str]) -> None:
    parser = command_parser("merge", "Make one model from several of the same shape, without training.", EPILOG)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a model directory or a run directory")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="model directory to write")
    parser.add_argument(
        "--method",
        default="linear",
        choices=["linear", "slerp", "task", "ties", "dare"],
        help="linear: weighted mean (default); slerp: two models, along the arc between them; task: what each "
        "learned since the base, added up; ties: without contradictions; dare: thinned out by chance",
    )
    parser.add_argument("--base", metavar="MODEL", help="what the models were trained from (task, ties, dare)")
    parser.add_argument(
        "--weights",
        nargs="+",
        type=number,
        default=[],
        metavar="W",
        help="one for each model: its share (linear, ties) or the factor of what it learned (task, dare); all 1",
    )
    parser.add_argument("--t", type=number, default=0.5, help="of slerp: 0 is the first model, 1 the second (0.5)")
    parser.add_argument(
        "--density", type=number, default=0.2, metavar="P", help="share of each difference kept (ties, dare; 0.2)"
    )
    parser.add_argument("--scale", type=number, default=1.0, help="multiplies what ties adds to the base (1)")
    parser.add_argument("--seed", type=seed, default=0, help="of what dare leaves out (0)")
    options = vars(parser.parse_args(argv))

    from minimind.model.hf.merge import MergeOptions, merge

    models, out, base = options.pop("models"), options.pop("out"), options.pop("base")
    done = merge(models, out, MergeOptions(**options | {"weights": tuple(options["weights"])}), base)
    for adapter in [] if done.is_adapter else done.adapters:
        print(f"note: {adapter} is an adapter, and was merged into its base first")
    what = "one adapter of their base" if done.is_adapter else f"{done.parameters:,} parameters"
    print(f"{out}: {options['method']} of {len(models)} {'adapters' if done.is_adapter else 'models'}, {what}")
