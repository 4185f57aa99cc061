"""`minimind data distill`: training data from what a teacher answers."""

from __future__ import annotations

import argparse
import os
import threading
import urllib.parse
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from minimind.commands.options import (
    add_device,
    add_encoding,
    add_json,
    add_sampling,
    command_parser,
    count,
    seconds,
    seed,
    typed,
)
from minimind.commands.output import print_json
from minimind.errors import UserError, WorkFailed
from minimind.util.progress import progress
from minimind.util.typed import CountOrZero, Range

if TYPE_CHECKING:
    from minimind.data.distill.distill import Distillation, Report
    from minimind.data.distill.judges import Judge
    from minimind.data.distill.teachers import Teacher

EPILOG = """examples:
  minimind data distill --prompts questions.txt --from runs/chat --out sft.jsonl
  minimind data distill --prompts q.jsonl --from https://api.example.com/v1 --model big --out sft.jsonl
  minimind data distill --prompts q.jsonl --from runs/big --rejected-from runs/small --kind preference --out p.jsonl
  minimind data distill --prompts q.jsonl --from runs/chat --best-of 4 --judge runs/big --out best.jsonl

The same command again goes on where it was stopped: NAME.answers.jsonl keeps every answer, who gave it, and how it
was sampled. The key of a server is read from $MINIMIND_API_KEY; servers other than that of --from get
$MINIMIND_REJECTED_API_KEY and $MINIMIND_JUDGE_API_KEY. No key is written anywhere."""

NAMED = 5  # bad lines and refused prompts that are shown


def run(argv: list[str]) -> int | None:
    options = _parser().parse_args(argv)

    from minimind.data.distill.distill import Budget, distill, journal_of
    from minimind.data.distill.prompts import read_prompts
    from minimind.data.sources.documents import BadLine
    from minimind.infer.remote import ServerError

    bad = list[BadLine]()
    prompts, repeated = read_prompts(options.prompts, bad.append, options.encoding)
    if not prompts:
        raise UserError(f"{options.prompts[0]} holds no prompt" + (f"; its first line: {bad[0]}" if bad else ""))
    stop = threading.Event()
    task = _task(options, stop)
    with progress("asking", len(prompts), "prompts") as bar:

        def show(report: Report) -> None:
            bar.reach(report.asked)
            bar.say(", ".join(["asking", f"{report.usage.tokens:,} tokens", *_cost(report, options.prices)]))

        try:
            report = distill(
                prompts,
                task,
                options.out,
                options.concurrency,
                Budget(options.max_requests, options.max_tokens_total),
                options.keep,
                stop,
                show,
            )
        except KeyboardInterrupt:
            print(f"stopped; {journal_of(options.out)} has the answers so far, and the same command goes on")
            return 130
        except ServerError as error:
            fault = UserError if error.status in (401, 403, 404) else WorkFailed
            kept = f"{journal_of(options.out)} has the answers so far, and the same command goes on"
            raise fault(f"{error}; {kept}") from None
    if options.json:
        print_json({**vars(report), "usage": vars(report.usage), "repeated": repeated, "bad": [*map(str, bad)]})
    else:
        _print(report, repeated, [str(one) for one in bad], options)
    return None


def _print(report: Report, repeated: int, bad: list[str], options: argparse.Namespace) -> None:
    what = "conversations" if options.kind == "sft" else "pairs"
    print(f"{options.out}: {report.written:,} {what} from {report.asked:,} of {report.prompts:,} prompts")
    if report.left_out:
        print("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in report.left_out.most_common()))
    if repeated:
        print(f"{repeated:,} prompts were there before and are asked once")
    for title, lines in (("no prompts", bad), ("refused by the teacher", report.not_asked)):
        if lines:
            print(f"{len(lines):,} {title}:", *lines[:NAMED], *["…"][: len(lines) > NAMED], sep="\n  ")
    usage = report.usage
    print(", ".join([f"{usage.requests:,} requests", f"{usage.tokens:,} tokens", *_cost(report, options.prices)]))
    if report.out_of_budget:
        print("the budget is spent; the same command with a larger one goes on")


def _cost(report: Report, prices: list[float] | None) -> list[str]:
    if prices is None:
        return []
    usage = report.usage
    return [f"cost {(usage.prompt_tokens * prices[0] + usage.completion_tokens * prices[1]) / 1e6:,.4f}"]


def _task(options: argparse.Namespace, stop: threading.Event) -> Distillation:
    """Who is asked what, as the options say; UserError for options that do not go together."""
    from minimind.data.distill.distill import Distillation
    from minimind.data.distill.judges import MarkingJudge, RewardJudge
    from minimind.data.distill.teachers import LocalTeacher
    from minimind.infer.sampler import SamplingParams

    given = {name: getattr(options, name) for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens")}
    params = SamplingParams(**{name: value for name, value in given.items() if value is not None})
    second = (options.rejected_from, options.rejected_model, options.rejected_temperature)
    has_second = second != (None, None, None)
    if (options.best_of > 1) != (options.judge is not None):
        raise UserError("--best-of and --judge belong together: several answers, and who says which is the best")
    if has_second and options.kind != "preference":
        raise UserError("the --rejected options are about pairs; add --kind preference")
    if has_second and options.judge:
        raise UserError("a pair is either two teachers' or the best and the worst of --best-of; leave one out")
    if options.kind == "preference" and not has_second and not options.judge:
        raise UserError(
            "a pair needs a worse answer: name --rejected-from, --rejected-model or --rejected-temperature, or "
            "--best-of with --judge"
        )
    teachers = _Teachers(options, stop)
    teacher = teachers.open(options.teacher, options.model, "")
    rejected: tuple[Teacher, SamplingParams] | None = None
    if has_second:
        weaker = teachers.open(options.rejected_from or options.teacher, options.rejected_model, "REJECTED_")
        warmer = {} if options.rejected_temperature is None else {"temperature": options.rejected_temperature}
        rejected = weaker, SamplingParams(**{**vars(params), **warmer})
        if (weaker.name, rejected[1]) == (teacher.name, params):
            raise UserError("chosen and rejected answers would come from one model at one temperature")
    judge: Judge | None = None
    if options.judge:
        marking = teachers.open(options.judge, options.judge_model, "JUDGE_")
        if isinstance(marking, LocalTeacher) and marking.model.model.config.num_labels:
            judge = RewardJudge(marking.model, marking.name)
        else:
            judge = MarkingJudge(marking)
    return Distillation(
        teacher,
        options.kind,
        params,
        options.best_of,
        judge,
        rejected,
        options.system,
        options.hide_system,
        options.think,
        options.seed,
    )


class _Teachers:
    """Opens teachers, each model of this machine once."""

    def __init__(self, options: argparse.Namespace, stop: threading.Event) -> None:
        self.options, self.stop = options, stop
        self._local = cache(self._load)

    def open(self, where: str, model: str | None, variable: str) -> Teacher:
        """The teacher at an address or in a directory; `variable` says whose key another server is sent."""
        from minimind.data.distill.teachers import RemoteTeacher
        from minimind.infer.remote import Server

        if not _is_address(where):
            if model is not None:
                raise UserError(f"{where} is one model; a name of a model is for servers")
            return self._local(where)
        same = urllib.parse.urlsplit(where).netloc == urllib.parse.urlsplit(self.options.teacher).netloc
        key = os.environ.get(f"MINIMIND_{'' if same else variable}API_KEY")
        server = Server(where, key, self.options.timeout)
        if not (names := [model] if model else server.models()):
            raise UserError(f"{server.url} serves no model")
        return RemoteTeacher(server, names[0], self.options.retries, self.stop)

    def _load(self, path: str) -> Teacher:
        from minimind.api import Model
        from minimind.data.distill.teachers import LocalTeacher

        return LocalTeacher(Model(path, device=self.options.device), path)


def _is_address(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("data distill", "Make training data from what a teacher answers.", EPILOG)
    parser.add_argument(
        "--prompts",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="questions: a .txt with one a line, or records with prompt, text or conversations",
    )
    add_encoding(parser)
    parser.add_argument(
        "--from",
        dest="teacher",
        required=True,
        metavar="URL|MODEL",
        help="the teacher: an OpenAI-compatible server, as http://127.0.0.1:8000/v1, or a model of this machine",
    )
    parser.add_argument("--model", metavar="NAME", help="which model of the server (default: the first it lists)")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .jsonl file to write")
    parser.add_argument(
        "--kind", choices=["sft", "preference"], default="sft", help="conversations (sft, default) or pairs"
    )
    worse = parser.add_argument_group("the rejected answers of pairs")
    worse.add_argument("--rejected-from", metavar="URL|MODEL", help="a weaker teacher (default: that of --from)")
    worse.add_argument("--rejected-model", metavar="NAME", help="which model of that server")
    worse.add_argument("--rejected-temperature", type=float, metavar="T", help="(default: --temperature)")
    best = parser.add_argument_group("the best of several answers")
    best.add_argument(
        "--best-of",
        type=count,
        default=1,
        metavar="N",
        help="ask N times; take the best, of a pair also the worst",
    )
    judge = "who says which is the best: a reward model, or one that gives marks"
    best.add_argument("--judge", metavar="URL|MODEL", help=judge)
    best.add_argument("--judge-model", metavar="NAME", help="which model of that server")
    asking = parser.add_argument_group("asking")
    asking.add_argument("--system", default="", metavar="TEXT", help="system message of prompts that have none")
    asking.add_argument(
        "--hide-system", action="store_true", help="leave it out of the data: its rules become habit"
    )
    asking.add_argument(
        "--think", action="store_true", help="let the teacher think first; its thoughts are data, too"
    )
    add_sampling(asking)
    asking.add_argument("--seed", type=seed, help="makes answers repeatable where the teacher can (default: none)")
    asking.add_argument("--concurrency", type=count, default=8, metavar="N", help="requests at once (default: 8)")
    asking.add_argument("--timeout", type=seconds, default=300.0, metavar="S", help="seconds for an answer (300)")
    asking.add_argument(
        "--retries", type=typed(CountOrZero), default=5, metavar="N", help="of a request that failed (default: 5)"
    )
    budget = parser.add_argument_group("budget, all sessions together")
    budget.add_argument("--max-requests", type=count, metavar="N", help="most requests")
    budget.add_argument("--max-tokens-total", type=count, metavar="N", help="no more requests after so many tokens")
    price = typed(Annotated[float, Range(0, 1e9)])
    budget.add_argument(
        "--prices", nargs=2, type=price, metavar=("IN", "OUT"), help="of a million tokens, to show the cost so far"
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        default=[],
        choices=["truncated", "refused", "duplicate"],
        help="keep answers that were cut off, that decline, or that were given before",
    )
    add_json(parser)
    return parser
