"""The training loop. There is one; a stage brings data, an objective and a few defaults."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.loader import BatchSource, Prefetcher
from minimind.errors import UserError
from minimind.hardware import matmul_rate
from minimind.model import save_model
from minimind.optim.schedule import lr_multiplier
from minimind.plan.flops import flops_per_token
from minimind.plan.time import compiling_pays
from minimind.train.budget import expected_seconds, total_steps
from minimind.train.checkpoint import Checkpoints, Progress, load_checkpoint, read_marks, read_progress
from minimind.train.evaluation import Evaluation, Evaluator, Scores, out_of_patience
from minimind.train.interrupt import Interrupt
from minimind.train.metrics import JsonLines, StepLog
from minimind.train.objective import Objective
from minimind.train.recovery import checkpoint_to_return_to, count_bad_steps, skip_data
from minimind.train.setup import Setup
from minimind.train.step import TrainStep, make_step

LINES = "metrics.jsonl", "samples.jsonl"


@dataclass
class Outcome:
    """How a call of `Trainer.fit` ended."""

    status: str  # finished, stopped
    progress: Progress
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0 when finished; as a shell reports a signal otherwise (130 for Ctrl-C)."""
        return 0 if self.signal is None else 128 + self.signal


class Trainer:
    """Trains a model by `objective` on the batches of `source`, and scores it by `evaluation`."""

    def __init__(self, setup: Setup, source: BatchSource, objective: Objective, evaluation: Evaluation) -> None:
        self.setup, self.recipe, self.model = setup, setup.recipe, setup.model
        self.strategy, self.say = setup.strategy, setup.console.say
        self.source, self.objective, self.evaluation = source, objective, evaluation
        self.flops = flops_per_token(self.model.config, self.recipe.batch.seq_len)
        self.matmul_rate = matmul_rate(setup.device, self.model.compute_dtype)
        self.checkpoints = Checkpoints(setup.run, self.recipe.checkpoint.keep)
        self.progress = Progress()
        self.saved_step, self.last_save = -1, time.monotonic()

    # ------------------------------------------------------------------------------------------ the loop

    def fit(self) -> Outcome:
        """Train to the end of the budget, or to a signal; a checkpoint is written either way."""
        self.begin()
        stopped = False
        with Interrupt() as interrupt:
            while not (self.finished or stopped):
                with self.open_batches() as batches:  # once more after a roll-back, past the data that led to it
                    for batch in self.next_batches(batches):
                        self.train_step(batch)
                        log, evaluate, save, stopped = self.due(interrupt)
                        if log:
                            self.log(batches)
                        if self.progress.bad_steps >= self.recipe.max_bad_steps:
                            self.roll_back()
                            break
                        if evaluate:
                            self.evaluator(self.progress, self.scores)
                        if save:
                            self.save()
                        if stopped or self.finished:
                            break
        self.end()
        if stopped and not self.finished:
            return Outcome("stopped", self.progress, interrupt.signal or signal.SIGTERM)  # another process got it
        return Outcome("finished", self.progress)

    @property
    def finished(self) -> bool:
        return self.progress.step >= self.progress.total_steps

    def open_batches(self) -> Prefetcher:
        progress = self.progress
        first, last = progress.step + progress.skipped, progress.total_steps + progress.skipped
        return Prefetcher(self.source, first, last, self.strategy.rank, self.strategy.world)

    def next_batches(self, batches: Prefetcher) -> Iterator[Batch]:
        """The batches of the coming steps. Where one cannot be had, what was learned so far is saved."""
        try:
            yield from (batch for _, batch in batches)
        except UserError as error:
            if not self.progress.step:
                raise
            self.save()
            raise UserError(f"{error}; step {self.progress.step} is saved, and the same command goes on") from None

    def train_step(self, batch: Batch) -> None:
        """One optimizer step on this process's share of a batch."""
        start, progress = time.perf_counter(), self.progress
        rate = lr_multiplier(self.recipe.schedule, progress.step, progress.total_steps)
        result = self.step(batch, rate)
        progress.step += 1
        self.step_log.add(result, batch, time.perf_counter() - start)

    def due(self, interrupt: Interrupt) -> tuple[bool, bool, bool, bool]:
        """What comes after this step: log, evaluate, save, stop; all processes agree."""
        step, options = self.progress.step, self.recipe.checkpoint
        every = self.recipe.evaluation.every or max(1, self.progress.total_steps // 10)
        evaluate = step % every == 0 or self.finished
        is_late = time.monotonic() - self.last_save > 60 * options.every_minutes
        is_round = bool(options.every and step % options.every == 0)
        save, stop = self.strategy.any(is_late or is_round, interrupt.signal is not None)
        return step % self.recipe.log_every == 0 or evaluate or save or stop, evaluate, save, stop

    def log(self, batches: Prefetcher) -> None:
        """Write a line about the steps since the last one, and count those that were not finite."""
        progress = self.progress
        epoch = self.source.epoch(progress.step + progress.skipped)
        values, line = self.step_log.write(progress, self.step, epoch, batches.wait_seconds, self.source)
        batches.wait_seconds = 0.0
        self.setup.console.step(line | self.evaluator.latest, progress.total_steps, self.objective.shown)
        count_bad_steps(self.setup, self.source, progress, values.finite(self.step.adapts_scale))

    def roll_back(self) -> None:
        """Return to the newest checkpoint and pass over the data that led here."""
        failed = self.progress
        self.load(checkpoint_to_return_to(self.checkpoints, failed))
        skip_data(self.progress, failed)
        self.step_log.clear()
        self.say(f"{failed.bad_steps} bad steps in a row: back to step {self.progress.step}, now with later data")

    def scores(self, evaluation: Evaluation) -> Scores:
        self.model.eval()
        try:
            return self.step.with_less_memory(lambda: evaluation(self.step.micro_batch_size))
        finally:
            self.model.train()

    # ---------------------------------------------------------------------------------- saving, resuming

    def begin(self) -> None:
        """Load the run's newest checkpoint, if there is one; afterwards steps can be made."""
        setup, checkpoint = self.setup, self.checkpoints.find(self.strategy, self.say)
        if checkpoint is not None:
            self.progress = read_progress(checkpoint)
        self.prepare()
        if checkpoint is not None:
            self.load(checkpoint)
        progress = self.progress
        progress.total_steps = total_steps(self.recipe, self.source, self.step, progress, setup.console)
        marks = read_marks(checkpoint) if checkpoint else {}
        self.metrics, samples = (
            JsonLines(
                setup.run / name if self.strategy.is_main else None,
                progress.step if checkpoint else -1,
                marks.get(name),
                self.say,
            )
            for name in LINES
        )
        self.step_log = StepLog(self.metrics, self.flops, self.matmul_rate)
        self.evaluator = Evaluator(setup, self.evaluation, self.metrics, samples)
        self.last_save = time.monotonic()
        if checkpoint is None:
            torch.manual_seed(self.recipe.seed)
            self.evaluator.first(self.scores)
            return
        self.say(f"resuming from step {progress.step:,}")
        if patience_is_out := out_of_patience(setup, progress):
            progress.total_steps = min(progress.total_steps, progress.step)
        if self.finished:
            larger = "evaluation.patience" if patience_is_out else "budget"
            self.say(f"this run is finished; to train on, use the same command with a larger {larger}")

    def prepare(self) -> None:
        """Make steps possible: compile where it pays, or where the run so far did, for plain arithmetic differs in
        bits; and lay out objective and optimizers where the strategy says."""
        choice = self.recipe.compile
        if choice is None and self.progress.step:
            choice = self.progress.compiled
        if choice is None:
            choice = self.setup.device.type == "cuda" or self.compiling_pays
        self.progress.compiled = choice and self.model.compile_blocks(self.say)
        self.step = self.make_step()
        self.model.train()

    def make_step(self) -> TrainStep:
        return make_step(self.recipe, self.model, self.objective, self.strategy, self.say)

    @property
    def compiling_pays(self) -> bool:
        seconds = expected_seconds(self.recipe, self.source, self.flops, self.matmul_rate)
        return self.setup.device.type == "cpu" and self.strategy.any(compiling_pays(seconds))[0]

    def load(self, checkpoint: Path) -> None:
        training, self.progress = load_checkpoint(checkpoint, self.model)
        self.step.load_state_dict(training)
        self.source.load_state_dict(training.get("source", {}))
        self.saved_step = self.progress.step

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.saved_step != self.progress.step:
            files = dict(zip(LINES, (self.metrics, self.evaluator.sample_lines)))
            for file in files.values():
                file.sync()
            marks = {name: file.mark for name, file in files.items()}
            training = self.step.state_dict()
            if of_source := self.source.state_dict():
                training["source"] = of_source
            parts = self.model, self.setup.tokenizer, training, self.progress, marks
            self.strategy.save(lambda: self.checkpoints.save(*parts))
            self.saved_step = self.progress.step
        self.last_save = time.monotonic()

    def end(self) -> None:
        """Save; the model, too, where the run is finished."""
        self.save()
        self.metrics.close()
        self.evaluator.sample_lines.close()
        if self.finished:
            self.strategy.save(lambda: save_model(self.model, self.setup.run / "model", self.setup.tokenizer))
