"""`minimind eval ppl|skills|reasoning|toolcall|agent|reward`: how good a model is; longctx has eval_longctx.py."""

from __future__ import annotations

import argparse
from typing import Annotated

from minimind.commands import eval_longctx
from minimind.commands.options import add_data, add_device, add_json, count, length, load_named, seed, typed
from minimind.commands.output import print_json, print_table
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError
from minimind.util.typed import Range

SKILLS = "identity, facts, translation, arithmetic, strings, recall across turns, tool use, stopping"
EXAMPLES = """\
examples:
  minimind eval ppl runs/base --data text.jsonl
  minimind eval skills runs/chat
  minimind eval reward runs/reward --data pairs.jsonl
  minimind eval longctx runs/base --data novel.txt"""


def run(argv: list[str]) -> None:
    subcommands = Subcommands("eval", "Measure a model.", EXAMPLES)
    on_texts = subcommands.add(
        "ppl",
        ppl,
        "bits per byte and perplexity on texts or conversations",
        "minimind eval ppl runs/base --data zh.jsonl en.jsonl --seq-len 512",
    )
    add_data(on_texts, "each is measured alone", required=True)
    on_texts.add_argument("--seq-len", type=length, default=512, help="longest context in tokens (default: 512)")
    on_texts.add_argument("--max-tokens", type=count, help="tokens read of each file (default: all)")

    on_skills = subcommands.add(
        "skills", skills, f"held-out questions of the embedded world: {SKILLS}", "minimind eval skills runs/chat"
    )
    on_skills.add_argument("--per-skill", type=count, default=200, help="questions of each skill (default: 200)")
    on_skills.add_argument("--seed", type=seed, default=0, help="which questions are drawn (default: 0)")
    on_skills.add_argument("--max-tokens", type=count, default=96, help="longest answer (default: 96)")

    on_reasoning = subcommands.add(
        "reasoning",
        reasoning,
        "the same questions answered at once and after thinking: three-digit sums, two steps in a row",
        "minimind eval reasoning runs/reason",
    )
    add_data(on_reasoning, "questions with a gt (default: held-out questions of the embedded world)")
    on_reasoning.add_argument("--per-skill", type=count, default=200, help="questions of each skill (default: 200)")
    on_reasoning.add_argument("--seed", type=seed, default=0, help="which of the world's are drawn (default: 0)")
    on_reasoning.add_argument("--max-tokens", type=count, default=512, help="longest answer (default: 512)")
    on_reasoning.add_argument(
        "--thinking-budget", type=count, metavar="N", help="close a thought after N tokens (default: never)"
    )

    on_calls = subcommands.add(
        "toolcall",
        toolcall,
        "whether the model calls the right tool with the right arguments, only when it should, and says the result",
        "minimind eval toolcall runs/chat --data tools.jsonl",
    )
    add_data(on_calls, "conversations with tools (default: held-out questions of the embedded world)")
    on_calls.add_argument(
        "--questions",
        type=count,
        default=200,
        help="at most so many turns; of the world's each kind (default: 200)",
    )
    on_calls.add_argument("--seed", type=seed, default=0, help="which of the world's are drawn (default: 0)")
    on_calls.add_argument("--max-tokens", type=count, default=256, help="longest answer (default: 256)")

    on_chains = subcommands.add(
        "agent",
        agent,
        "whether the model gets to the right answer over several turns, where one tool's result is for the next",
        "minimind eval agent runs/agent",
    )
    on_chains.add_argument(
        "--per-kind", type=count, default=100, help="held-out questions of each kind (default: 100)"
    )
    on_chains.add_argument(
        "--env", default="", metavar="FILE.py:CLASS", help="an environment of your own (default: the world's)"
    )
    on_chains.add_argument("--max-tokens", type=count, default=64, help="longest turn (default: 64)")

    on_pairs = subcommands.add(
        "reward",
        reward,
        "how often a model puts the chosen answer of a pair first: a reward model by score, others by likelihood",
        "minimind eval reward runs/reward --data pairs.jsonl --holdout 0.05",
    )
    add_data(on_pairs, "preference pairs, each file is measured alone", required=True)
    on_pairs.add_argument("--seq-len", type=length, default=1024, help="longest pair in tokens (default: 1024)")
    on_pairs.add_argument(
        "--holdout",
        type=typed(Annotated[float, Range(0, 0.5)]),
        default=0.0,
        metavar="SHARE",
        help="only the pairs that a training with this evaluation.holdout and --seed holds out (default: all)",
    )
    on_pairs.add_argument("--seed", type=seed, default=0, help="of that training (default: 0)")

    on_lengths = eval_longctx.add(subcommands)
    for child in (on_texts, on_skills, on_reasoning, on_calls, on_chains, on_pairs, on_lengths):
        child.add_argument("model", metavar="MODEL", help="model or run directory")
        add_device(child)
        add_json(child)
    subcommands.call(argv)


def ppl(options: argparse.Namespace) -> None:
    """Long documents are read in segments of at most --seq-len tokens that do not overlap."""
    import numpy as np

    from minimind.data.batches.loader import sequential_batches
    from minimind.data.shards.prepare import prepare
    from minimind.eval.perplexity import evaluate_nll

    directory, model, tokenizer = load_named(options)
    sequences = max(1, 8192 // options.seq_len)
    results = []
    for file in options.data:
        data = prepare([file], tokenizer, encoding=options.encoding)
        batches = sequential_batches(data, np.arange(len(data)), options.seq_len, sequences)
        most = (options.max_tokens or data.num_tokens) // (sequences * options.seq_len) + 1
        nll = evaluate_nll(
            model, (batch for _, batch in zip(range(most), batches)), next(model.parameters()).device
        )
        results.append({"file": str(file), **nll.to_dict(), "perplexity": nll.perplexity})
    if options.json:
        print_json({"model": str(directory), "seq_len": options.seq_len, "results": results})
        return
    table = [["file", "tokens", "bytes", "bits per byte", "loss", "perplexity"]]
    for r in results:
        counts = [f"{r['tokens']:,}", f"{r['bytes']:,.0f}"]
        table.append([r["file"], *counts, *(f"{r[key]:.4f}" for key in ("bits_per_byte", "loss", "perplexity"))])
    print_table(table)


def skills(options: argparse.Namespace) -> None:
    from minimind.eval.skills import evaluate
    from minimind.infer.engine import Engine
    from minimind.world.questions import questions

    directory, model, tokenizer = load_named(options)
    selection = questions(options.seed, options.per_skill)
    report = evaluate(Engine(model, max_batch=128), tokenizer, selection, options.max_tokens)
    if options.json:
        print_json({"model": str(directory), **report.to_dict()})
    else:
        print_table(report.rows())


def reasoning(options: argparse.Namespace) -> None:
    from minimind.eval.reasoning import compare, read_questions
    from minimind.infer.engine import Engine
    from minimind.world.questions import questions
    from minimind.world.skills.reasoning import SKILLS

    if options.data:
        selection = read_questions(options.data, options.per_skill, options.encoding)
    else:
        selection = questions(options.seed, options.per_skill, SKILLS)
    directory, model, tokenizer = load_named(options)
    engine = Engine(model, max_batch=128, tokenizer=tokenizer)
    report = compare(engine, tokenizer, selection, options.max_tokens, options.thinking_budget)
    if options.json:
        print_json({"model": str(directory), **report.to_dict()})
        return
    print_table(report.rows())
    print(f"{report.on.thought_tokens:.0f} tokens of thinking before an answer, in the mean")


def toolcall(options: argparse.Namespace) -> None:
    from minimind.eval.toolcall import evaluate, read_cases, world_cases
    from minimind.infer.engine import Engine

    most = options.questions
    if options.data:
        suites = {"": read_cases(options.data, options.encoding)[:most]}
    else:
        suites = {"": world_cases(options.seed, most), "new_tools": world_cases(options.seed, most, new=True)}
    directory, model, tokenizer = load_named(options)
    engine = Engine(model, max_batch=128)
    reports = {name: evaluate(engine, tokenizer, cases, options.max_tokens) for name, cases in suites.items()}
    if options.json:
        others = {name: report.to_dict() for name, report in reports.items() if name}
        print_json({"model": str(directory), **reports[""].to_dict(), **others})
        return
    for name, report in reports.items():
        if name:
            print("with tools that no training of the world offers:")
        print_table(report.rows())
        if report.too_long:
            print(f"{report.too_long} of {len(suites[name])} turns were left out: the context has no room for them")


def agent(options: argparse.Namespace) -> None:
    from minimind.infer.engine import Engine
    from minimind.rl.evaluation import play_greedily, report
    from minimind.rl.prompts.source import make_prompts
    from minimind.stage_options import RLOptions
    from minimind.world.skills.chains import KINDS

    prompts = make_prompts(RLOptions(env=options.env, skills=list(KINDS))).held_out(options.per_kind)
    directory, model, tokenizer = load_named(options)
    engine = Engine(model, max_batch=128)
    rollouts = play_greedily(engine, tokenizer, prompts, options.max_tokens, engine.context)
    found = report(rollouts)
    turns = sum(message["role"] == "assistant" for one in rollouts for message in one.messages) / len(rollouts)
    if options.json:
        print_json({"model": str(directory), "turns": turns, **found.to_dict()})
        return
    print_table(found.rows())
    print(f"{turns:.1f} turns of the model in an episode, in the mean")


def reward(options: argparse.Namespace) -> None:
    """Only the order within a pair counts: scores of different questions are not compared."""
    import numpy as np

    from minimind.data.shards.holdout import holdout
    from minimind.data.shards.prepare import prepare
    from minimind.eval.preference import evaluate
    from minimind.eval.skills import span
    from minimind.util.progress import progress

    directory, model, tokenizer = load_named(options)
    results, table = [], [["file", "by", "pairs", "accuracy", "95% interval", "mean margin"]]
    for file in options.data:
        data = prepare([file], tokenizer, "preference", encoding=options.encoding, train_on="last")
        chosen = np.ones(len(data), bool)
        if options.holdout:
            chosen = holdout(data.hashes, options.holdout, options.seed)
        if not chosen.any():
            raise UserError(f"{file}: no pair is held out by --holdout {options.holdout}; take a larger share")
        with progress("reading", int(data.lengths[chosen].sum()), "tokens") as update:
            report = evaluate(model, data, np.flatnonzero(chosen), options.seq_len, tokenizer.pad_id, update)
        if not report.scores:
            raise UserError(f"{file}: no pair has room for its answers; take a longer --seq-len")
        results.append({"file": str(file), **report.to_dict()})
        for name, score in report.scores.items():
            figures = [f"{score.total:,}", f"{score.accuracy:.1%}", span(score.interval)]
            table.append([str(file), name.replace("_", " "), *figures, f"{report.margins[name]:.3f}"])
    if options.json:
        print_json({"model": str(directory), "seq_len": options.seq_len, "results": results})
    else:
        print_table(table)
        if left_out := sum(result["left_out"] for result in results):
            print(f"{left_out} pairs were left out: within --seq-len {options.seq_len} their answers do not differ")
