"""The training loop. There is one; a stage brings data, an objective and a few defaults."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minimind.data.batches.batch import PADDING, Batch
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.loader import Loader, Prefetcher, sequential_batches
from minimind.data.shards.shard_set import ShardSet
from minimind.errors import UserError, WorkFailed
from minimind.eval.perplexity import NLL, measure
from minimind.hardware import matmul_rate, peak_memory_gb, pick_dtype, synchronize
from minimind.model import Transformer, save_model
from minimind.optim.groups import build_optimizers
from minimind.optim.schedule import lr_multiplier
from minimind.plan.flops import flops_per_token
from minimind.plan.time import COMPILE_GAIN, compiling_pays
from minimind.recipe import Recipe
from minimind.tokenizer import Tokenizer
from minimind.train.bad_steps import write_bad_step
from minimind.train.budget import budgeted_steps, largest_divisor
from minimind.train.checkpoint import Checkpoints, Progress, load_checkpoint, remove_leftovers
from minimind.train.console import TrainingConsole, duration
from minimind.train.interrupt import Interrupt
from minimind.train.metrics import JsonLines, Window, averages
from minimind.train.objective import Objective
from minimind.train.parallel import Strategy
from minimind.train.router import Routers
from minimind.train.sample_generations import Samples
from minimind.train.step import Update


@dataclass
class Outcome:
    """How a call of `Trainer.fit` ended."""

    status: str  # finished, stopped
    progress: Progress
    signal: int | None = None


class Trainer:
    """Trains `model` on the documents of `data` by `objective`, in the run directory `run`."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        model: Transformer,
        tokenizer: Tokenizer,
        data: ShardSet,
        train_documents: np.ndarray,
        held_out_documents: np.ndarray,
        objective: Objective,
        strategy: Strategy,
        console: TrainingConsole,
    ) -> None:
        self.recipe, self.run, self.tokenizer = recipe, run, tokenizer
        self.data, self.held_out = data, held_out_documents
        self.objective, self.strategy, self.console = objective, strategy, console
        self.device = strategy.device
        dtype = pick_dtype(recipe.precision, self.device)
        self.model = model.to(self.device).train()
        self.model.compute_dtype = dtype
        self.model.activation_checkpointing = recipe.activation_checkpointing
        batch = recipe.batch
        self.loader = Loader(data, train_documents, batch.seq_len, batch.rows, recipe.seed, batch.long_documents)
        self.micro_batch_size = largest_divisor(
            batch.rows // strategy.world, max(1, batch.micro_batch_tokens // batch.seq_len)
        )
        newton_schulz_dtype = torch.float32 if dtype == torch.float16 else dtype
        optimizers = build_optimizers(self.model, recipe.optimizer, newton_schulz_dtype)
        self.update = Update(optimizers, recipe.optimizer.grad_clip, dtype == torch.float16, self.device)
        self.routers = Routers(self.model, recipe.router, self.device) if model.config.family.experts else None
        self.progress = Progress()
        self.checkpoints = Checkpoints(run, recipe.checkpoint.keep)
        self.flops = flops_per_token(model.config, batch.seq_len)
        self.matmul_rate = matmul_rate(self.device, dtype)
        longest = min(batch.seq_len, model.config.max_position_embeddings - 1)  # the answer needs room
        self.samples = Samples(tokenizer, data, held_out_documents, recipe.evaluation.samples, longest)
        self.saved_step = -1
        self.window = Window()

    # ------------------------------------------------------------------------------------------ the loop

    def fit(self) -> Outcome:
        """Train to the end of the budget, or to a signal; a checkpoint is written either way."""
        resumed = self._resume()
        self.prepare(resumed)
        self.progress.total_steps = self._total_steps(resumed)
        if resumed:
            self._say_if_finished()
        kept = self.progress.step if resumed else -1
        self.metrics = JsonLines(self.run / "metrics.jsonl" if self.is_main else None, kept)
        self.sample_lines = JsonLines(self.run / "samples.jsonl" if self.is_main else None, kept)
        self.last_save = time.monotonic()
        if not resumed:
            torch.manual_seed(self.recipe.seed)
            self._check_first_loss()
        ended = False
        with Interrupt() as interrupt:
            while self.progress.step < self.progress.total_steps and not ended:
                ended = self._run_until_rollback(interrupt)
        self.metrics.close()
        self.sample_lines.close()
        if interrupt.signal is not None and self.progress.step < self.progress.total_steps:
            self._save()
            return Outcome("stopped", self.progress, interrupt.signal)
        self._save()
        if self.is_main:
            save_model(self.model, self.run / "model", self.tokenizer)
        return Outcome("finished", self.progress)

    def _run_until_rollback(self, interrupt: Interrupt) -> bool:
        """Make steps; True when the run has ended, False when the data must be read from another place."""
        progress, recipe = self.progress, self.recipe
        evaluate_every = recipe.evaluation.every or max(1, progress.total_steps // 10)
        first, skipped = progress.step + progress.skipped, progress.skipped
        last = progress.total_steps + skipped
        with Prefetcher(self.loader, first, last, self.strategy.rank, self.strategy.world) as batches:
            for _, batch in batches:
                self.step(batch)
                self.window.data_seconds = batches.wait_seconds
                evaluate = progress.step % evaluate_every == 0 or progress.step == progress.total_steps
                save, stop = self._agree(self._save_is_due(), interrupt.signal is not None)
                if progress.step % recipe.log_every == 0 or evaluate or save or stop:
                    if not self._log():
                        return False
                    batches.wait_seconds = 0.0
                if evaluate and self._evaluate():
                    return True
                if save:
                    self._save()
                if stop:
                    interrupt.signal = interrupt.signal or signal.SIGTERM  # another process got it
                    return True
        return True

    def step(self, batch: Batch) -> None:
        """One optimizer step on this process's rows, in micro-batches."""
        start = time.perf_counter()
        losses = self.gradients(batch)
        schedule, progress = self.recipe.schedule, self.progress
        rate = lr_multiplier(
            schedule.kind,
            progress.step,
            progress.total_steps,
            round(schedule.warmup * progress.total_steps),
            round(schedule.decay * progress.total_steps),
            schedule.min_lr_ratio,
        )
        norm = self.update.step(rate, losses.sum())
        if self.routers:
            self.routers.end_step(self.strategy.total(self.routers.step_LF), norm)
        progress.step += 1
        self.window.losses.append(losses)
        self.window.norms.append(norm)
        self.window.positions += batch.tokens.numel()
        self.window.tokens += int((batch.documents != PADDING).sum())
        self.window.seconds += time.perf_counter() - start

    def gradients(self, batch: Batch) -> torch.Tensor:
        """Accumulate the step's gradient; returns the terms of its loss, summed over micro-batches and processes.

        Every term is divided by its units in the whole step, known before the first forward pass. When
        memory runs out the step begins again with half the rows at a time, which changes no result.
        """
        micro_batches = split_into_micro_batches(batch, self.micro_batch_size)
        units = [self._units(micro) for micro in micro_batches]
        self.terms = list(units[0])
        totals = self.strategy.sum([sum(unit[name] for unit in units) for name in self.terms])
        divisors = dict(zip(self.terms, totals.masked_fill(totals == 0, 1).to(torch.float32)))
        losses = torch.zeros(len(self.terms), device=self.device)
        if self.routers:
            self.routers.begin_step()
        try:
            for number, micro in enumerate(micro_batches, start=1):
                losses += self.strategy.forward_backward(
                    micro.to(self.device), divisors, self.update.scale, last=number == len(micro_batches)
                )
        except torch.OutOfMemoryError:
            self._take_fewer_rows()
            for optimizer in self.update.optimizers:
                optimizer.zero_grad(set_to_none=True)
        else:
            return self.strategy.total(losses)
        return self.gradients(batch)

    def _units(self, batch: Batch) -> dict[str, float]:
        """Units of every term: the objective's, and those of the routers where the model has some."""
        return self.objective.units(batch) | (self.routers.units(batch) if self.routers else {})

    def _take_fewer_rows(self) -> None:
        """Half the rows at a time from now on, after memory ran out."""
        if self.micro_batch_size == 1 or self.strategy.world > 1:
            raise UserError(
                f"out of memory with {self.micro_batch_size} rows of {self.recipe.batch.seq_len} at a time; "
                "use a smaller batch.micro_batch_tokens, batch.seq_len or model"
            ) from None
        self.micro_batch_size = largest_divisor(self.recipe.batch.rows, self.micro_batch_size // 2)
        self.console.say(f"out of memory: going on with {self.micro_batch_size} rows at a time (same results)")

    # ------------------------------------------------------------------------- looking, saving, resuming

    def _log(self) -> bool:
        """Write a line of metrics; False when too many bad steps in a row made the run roll back."""
        window, progress = self.window, self.progress
        self.window = Window()
        if not window.losses:
            return True
        losses, norms = window.read(self.device)
        tokens, positions = (int(x) for x in self.strategy.sum([window.tokens, window.positions]).tolist())
        progress.tokens += tokens
        progress.seconds += window.seconds
        rate = tokens / max(window.seconds, 1e-9)
        line = {
            "step": progress.step,
            "tokens": progress.tokens,
            **averages(self.terms, losses, norms),
            **({"experts": self.routers.health()} if self.routers else {}),
            "lr": self.update.optimizers[0].param_groups[0]["lr"],
            "tokens_per_second": rate,
            "padding": 1 - tokens / positions,
            "mfu": rate / self.strategy.world * self.flops / self.matmul_rate,
            "memory_gb": peak_memory_gb(self.device),
            "data_time": window.data_seconds / max(window.seconds, 1e-9),
            "epoch": self.loader.epoch(progress.step + progress.skipped),
            "elapsed": progress.seconds,
        }
        self.metrics.write(**line)
        seconds_left = (progress.total_steps - progress.step) * window.seconds / len(losses)
        self.console.step(line, progress.total_steps, seconds_left)
        # By overflowing gradients fp16's loss scale finds its size: no fault, while the loss is finite.
        adapts = self.update.fp16 and float(self.update.scale) >= 1
        return self._judge([math.isfinite(sum(terms) if adapts else norm) for terms, norm in zip(losses, norms)])

    def _judge(self, finite: list[bool]) -> bool:
        """Count bad steps; each was skipped and is written down. False after rolling back."""
        progress = self.progress
        for step, good in enumerate(finite, start=progress.step - len(finite) + 1):
            progress.bad_steps = 0 if good else progress.bad_steps + 1
            if not good and self.is_main:
                data_step = step - 1 + progress.skipped
                self.console.say(write_bad_step(self.run, self.loader, self.data, step, data_step))
            if progress.bad_steps >= self.recipe.max_bad_steps:
                self._roll_back()
                return False
        return True

    def _roll_back(self) -> None:
        """Return to the newest checkpoint and pass over the data that led here."""
        failed = self.progress
        checkpoint, _ = self.checkpoints.newest_whole()
        if checkpoint is None:
            raise WorkFailed(
                f"{failed.bad_steps} steps in a row were not finite and there is no checkpoint to return to; "
                "try a lower optimizer.learning_rate, or --precision fp32"
            )
        if failed.step <= failed.rolled_back_from:
            raise WorkFailed(
                "not finite again after rolling back; try a lower optimizer.learning_rate, or --precision fp32"
            )
        self._load(checkpoint)
        progress = self.progress
        progress.skipped = failed.step + failed.skipped - progress.step
        progress.total_steps, progress.rolled_back_from, progress.bad_steps = failed.total_steps, failed.step, 0
        self.window = Window()
        self.console.say(
            f"{self.recipe.max_bad_steps} bad steps in a row: back to step {self.progress.step}, "
            "going on with the data after them"
        )

    def _evaluate(self) -> bool:
        """Held-out bits per byte; True when the run should stop early."""
        if not len(self.held_out):
            return False
        progress, patience = self.progress, self.recipe.evaluation.patience
        nll = self.held_out_nll()
        value = nll.bits_per_byte
        better = value < (float("inf") if progress.best is None else progress.best)
        if better:
            progress.best, progress.best_step, progress.without_best = value, progress.step, 0
            if self.is_main:
                save_model(self.model, self.run / "best", self.tokenizer)
        else:
            progress.without_best += 1
        scores = {"bits_per_byte": value, "loss": nll.loss, "held_out_tokens": nll.tokens}
        self.metrics.write(step=progress.step, tokens=progress.tokens, eval=scores)
        if self.is_main:
            self.samples.write(self.model, progress.step, self.sample_lines)
        self.console.say(
            f"step {progress.step:,}: held-out {value:.4f} bits/byte, loss {nll.loss:.4f}"
            + (" (best)" if better else f" (best {progress.best or np.nan:.4f} at step {progress.best_step:,})")
        )
        if self._out_of_patience():
            self.console.say(f"no better result in {patience} evaluations: stopping")
            progress.total_steps = progress.step
            return True
        return False

    def held_out_nll(self) -> NLL:
        """Of the first held-out documents, up to evaluation.max_tokens; the processes share the work."""
        tokens_so_far = np.cumsum(self.data.lengths[self.held_out])
        documents = self.held_out[: max(1, int((tokens_so_far <= self.recipe.evaluation.max_tokens).sum()))]
        batches = sequential_batches(self.data, documents, self.recipe.batch.seq_len, self.micro_batch_size)
        mine = (b for n, b in enumerate(batches) if n % self.strategy.world == self.strategy.rank)
        try:
            part = measure(self.model, mine, self.device)
        except torch.OutOfMemoryError:
            self._take_fewer_rows()
        else:
            nats, tokens, size = self.strategy.sum([part.nats, part.tokens, part.bytes]).tolist()
            return NLL(nats, int(tokens), size)
        return self.held_out_nll()

    @property
    def is_main(self) -> bool:
        return self.strategy.is_main

    def _agree(self, *wishes: bool) -> list[bool]:
        """For each wish, whether any process has it: all must save or stop after the same step."""
        if self.strategy.world == 1:
            return list(wishes)
        return [count > 0 for count in self.strategy.sum([float(wish) for wish in wishes]).tolist()]

    def _save_is_due(self) -> bool:
        options = self.recipe.checkpoint
        late = time.monotonic() - self.last_save > 60 * options.every_minutes
        return late or bool(options.every and self.progress.step % options.every == 0)

    def _save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.saved_step != self.progress.step:
            if self.is_main:
                routers = {"routers": self.routers.state_dict()} if self.routers else {}
                training = self.update.state_dict() | routers
                self.checkpoints.save(self.model, self.tokenizer, training, self.progress)
            self.strategy.barrier()
            self.saved_step = self.progress.step
        self.last_save = time.monotonic()

    def _load(self, checkpoint: Path) -> None:
        training, self.progress = load_checkpoint(checkpoint, self.model)
        self.update.load_state_dict(training)
        if self.routers:
            self.routers.load_state_dict(training["routers"])
        self.saved_step = self.progress.step

    def _resume(self) -> bool:
        """Load the newest whole checkpoint of the run, if there is one; damaged ones are set aside."""
        checkpoint, damaged = self.checkpoints.newest_whole()
        self.strategy.barrier()  # all processes have chosen
        if checkpoint is None and damaged:
            raise UserError(
                f"{next(iter(damaged.values()))}, and no other checkpoint is whole; "
                f"restore one from a copy, or delete {self.checkpoints.directory} to begin again"
            )
        if self.is_main:
            remove_leftovers(self.run)
            for sentence in self.checkpoints.tidy(damaged):
                self.console.say(f"{sentence}, going on from an earlier one")
        if checkpoint is None:
            return False
        self._load(checkpoint)
        self.console.say(f"continuing from step {self.progress.step:,}")
        return True

    def _out_of_patience(self) -> bool:
        return 0 < self.recipe.evaluation.patience <= self.progress.without_best

    def _say_if_finished(self) -> None:
        """A run that reached its end, or stopped early, goes on only with a larger budget or patience."""
        progress = self.progress
        if self._out_of_patience():
            progress.total_steps = min(progress.total_steps, progress.step)
        if progress.step >= progress.total_steps:
            larger = "evaluation.patience" if self._out_of_patience() else "budget"
            self.console.say(f"this run is finished; to train on, use the same command with a larger {larger}")

    # ---------------------------------------------------------------------------------- before the loop

    def prepare(self, resumed: bool = False) -> None:
        """Make steps possible: compile where it pays, and hand the model to the strategy."""
        self._compile(resumed)
        self.strategy.prepare(self.model, self.objective, self.routers)

    def forecast(self) -> tuple[int, float]:
        """Steps of the run and seconds of each, as timed here and now; nothing is changed."""
        self.strategy.prepare(self.model, self.objective, self.routers)
        compiled = self.recipe.compile or (self.recipe.compile is None and self._compiling_pays())
        seconds = self._seconds_per_step() * (1 - COMPILE_GAIN if compiled else 1)
        return self._total_steps(False), seconds

    def _total_steps(self, resumed: bool) -> int:
        """The steps of the whole run by its budget; a time budget is turned into steps once."""
        minutes, progress = self.recipe.budget.minutes, self.progress
        if steps := budgeted_steps(self.recipe, self.loader):
            return steps
        if resumed and progress.minutes == minutes:
            return progress.total_steps
        progress.minutes = minutes
        seconds_left = max(0.0, 60 * (minutes or 0) - progress.seconds)
        steps = progress.step + max(1, int(seconds_left * 0.95 / self._seconds_per_step()))
        self.console.say(f"{duration(seconds_left)} are enough for {steps:,} steps")
        return steps

    def _seconds_per_step(self) -> float:
        """Time of one step's gradients, measured without changing anything; the slowest process counts."""
        batch = self.loader.step(0, self.strategy.rank, self.strategy.world)
        times = []
        for _ in range(3):  # the first one compiles
            start = time.perf_counter()
            self.gradients(batch)
            synchronize(self.device)
            times.append(time.perf_counter() - start)
        for optimizer in self.update.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return float(self.strategy.sum([min(times)])[0]) / self.strategy.world * 1.05  # the update itself

    def _compile(self, resumed: bool) -> None:
        """Compile the blocks where it pays, or where the run so far did (plain arithmetic differs in bits)."""
        choice = self.recipe.compile
        if choice is None and resumed:
            choice = self.progress.compiled
        if choice is None:
            choice = self.device.type == "cuda" or self._compiling_pays()
        self.progress.compiled = choice and self.model.compile_blocks(self.console.say)

    def _compiling_pays(self) -> bool:
        if self.device.type != "cpu":
            return False
        return self._agree(compiling_pays(self.recipe, self.loader, self.flops, self.matmul_rate))[0]

    def _check_first_loss(self) -> None:
        """From zero, all tokens must be about equally likely: anything else is a faulty initialization."""
        if self.recipe.init_from or not len(self.held_out):
            return
        loss, expected = self.held_out_nll().loss, float(np.log(self.model.config.vocab_size))
        self.metrics.write(step=0, tokens=0, eval={"loss": loss})
        if abs(loss / expected - 1) > 0.02:
            self.console.say(f"warning: the first loss is {loss:.3f}, not ln V = {expected:.3f}; check the model")


def exit_code(outcome: Outcome) -> int:
    """0 when finished; as a shell reports a signal otherwise (130 for Ctrl-C)."""
    return 0 if outcome.signal is None else 128 + outcome.signal
