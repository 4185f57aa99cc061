"""Where reinforcement learning gets its batches: episodes that the model plays with its present weights."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import BatchSource, expand, pack_once
from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.remote_engine import RemoteEngine
from minimind.infer.sampler import SamplingParams
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs
from minimind.losses.policy import k3
from minimind.model import Transformer
from minimind.model.lora import has_lora, without_lora
from minimind.rl import warnings
from minimind.rl.columns import values_by_token
from minimind.rl.envs.single_turn import begin
from minimind.rl.estimate import Estimator, count_informative, informative_first, means_of
from minimind.rl.objectives import PolicyGradient
from minimind.rl.prompts.source import BUDGET, PromptSource
from minimind.rl.rewards import make_rewards
from minimind.rl.rollout import Sampler, episode_seeds, run_episodes
from minimind.rl.types import Prompt, Rollout
from minimind.train.objective import Objective
from minimind.train.setup import Setup

T = TypeVar("T")
DOCUMENTS = ("ids", "masks", "columns", "document_columns", "group")
CARRIED = ("ids", "mask", "logprobs", "parts", "reward", "group", "columns", "messages", "text", "stop_reason")


class Rollouts(BatchSource):
    """Batches that the model makes with its present weights, several of one rollout where it is learned from more
    than once.

    Every process samples its share of the prompts and then has the episodes of all, so that advantages and what is
    remembered from one rollout to the next are the same everywhere, whatever the number of processes. Step k is a
    function of the weights, the seed, k and the state.
    """

    prefetch = False

    def __init__(self, setup: Setup, objective: Objective) -> None:
        self.setup, self.options = setup, setup.recipe.rl
        self.critic = objective.critic if isinstance(objective, PolicyGradient) else None
        self.estimator = Estimator(self.options)
        self.sequences = setup.recipe.batch.sequences
        self.at_once = max(1, setup.recipe.batch.micro_batch_tokens // setup.recipe.batch.seq_len)
        self.engine = make_sampler(setup)
        self.prompts, self.rewards = PromptSource(setup), make_rewards(setup)
        if too_long := len(setup.data.lengths) - len(setup.train_documents) - len(setup.held_out):
            setup.console.say(f"{too_long:,} prompts and rl.max_tokens do not fit batch.seq_len: left out")
        self.reference = None  # the model that the training starts from; one with an adapter still has it inside
        if self.options.reference and not has_lora(setup.model):
            self.reference = copy.deepcopy(setup.model).requires_grad_(False)
        self.params = SamplingParams(
            temperature=self.options.temperature,
            top_p=1.0,
            max_tokens=self.options.max_tokens,
            stop_ids=setup.tokenizer.stop_ids,
        )
        self.iteration, self.documents = -1, MemoryDocuments([], [])  # the rollout that is learned from
        self.means: dict[str, float] = {}  # of all its answers
        self.totals: dict[str, float] = defaultdict(float)  # since the last line of metrics.jsonl
        self.recent: list[dict[str, float]] = []  # means of the last rollouts
        self.said: set[str] = set()

    # ----------------------------------------------------------------------------------------- batches

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        """This process's share of minibatch k mod `updates` of a rollout, which the first of them samples."""
        iteration, update = divmod(k, self.options.updates)
        if update == 0 or iteration != self.iteration:
            if self.estimator.values is not None:
                self.estimator.values.moved += self.moved()
            self.documents = self.estimator.documents(self.sample(iteration, rank, world))
            self.iteration = iteration
        for name, value in self.means.items():
            self.totals[name] += value
        epoch, part = divmod(update, self.options.minibatches)
        rng = np.random.default_rng((self.setup.recipe.seed, iteration, epoch))
        order = rng.permutation(len(self.documents.ids) // self.documents.group)
        units = np.sort(np.array_split(order, self.options.minibatches)[part])[rank::world]
        chosen = select(self.documents, expand(units, self.documents.group))
        return pack_once(chosen, self.setup.recipe.batch.seq_len)

    def sample(self, iteration: int, rank: int, world: int) -> list[Rollout]:
        """The episodes of one rollout, of all processes; with more prompts where their answers are all alike."""
        options, start = self.options, time.perf_counter()
        self.refresh()
        self.totals["seconds_rollout"] += time.perf_counter() - start
        rollouts = self.play(iteration, 0, rank, world)
        for attempt in range(1, options.dynamic_sampling + 1):
            if count_informative(rollouts) >= options.prompts:
                break
            rollouts += self.play(iteration, attempt, rank, world)
        self.prompts.learn(rollouts)
        self.means = means_of(rollouts)
        if self.estimator.weight is not None:
            self.means["kl_weight"] = self.estimator.weight.weight
        self.warn()
        return informative_first(rollouts, options.prompts) if options.dynamic_sampling else rollouts

    def play(self, iteration: int, attempt: int, rank: int, world: int) -> list[Rollout]:
        """Episodes of as many new prompts: played, rewarded, and with the columns that are computed once."""
        options, recipe = self.options, self.setup.recipe
        if options.prompts % world:
            raise UserError(f"rl.prompts {options.prompts} cannot be shared equally by {world} processes")
        if options.units < options.minibatches * world:
            raise UserError(f"rl.minibatches {options.minibatches} are too many for {world} processes")
        share, first = options.prompts // world, attempt * options.prompts
        prompts = [one for before in range(attempt + 1) for one in self.prompts.training(iteration, before)]
        groups = range(first + rank * share, first + (rank + 1) * share)
        start = time.perf_counter()
        rollouts = self.in_all(lambda: run_episodes(
            self.engine, self.setup.tokenizer,
            [begin(prompts[group]) for group in groups for _ in range(options.group_size)],
            self.params,
            [one for group in groups for one in episode_seeds(recipe.seed, iteration, group, options.group_size)],
            recipe.batch.seq_len + 1,
            options.think,
        ))  # fmt: skip
        played = [replace(one, group=groups[at // options.group_size]) for at, one in enumerate(rollouts)]
        sampled = time.perf_counter()
        rollouts = self.in_all(lambda: self.rewards(with_answers(played, recipe.batch.seq_len)))
        self.totals["seconds_rollout"] += sampled - start
        self.totals["seconds_reward"] += time.perf_counter() - sampled
        return self.gather(self.with_columns(rollouts), prompts)

    def warn(self) -> None:
        """Say what the last rollouts lack, once."""
        self.recent = [*self.recent[1 - warnings.RECENT :], self.means]
        for text in (warnings.no_variance(self.recent), warnings.degenerate_groups(self.recent)):
            if text and text not in self.said:
                self.setup.console.say(f"warning: {text}")
                self.said.add(text)

    def refresh(self) -> None:
        """Have the answers sampled with the present weights. A server gets them from one process."""
        mine = self.setup.strategy.is_main or not self.options.server
        self.in_all(lambda: self.engine.refresh() if mine else None)

    def in_all(self, work: Callable[[], T]) -> T:
        """What `work` gives here; a UserError of one process is one of all, so that none waits for it in vain."""
        error = result = None
        try:
            result = work()
        except UserError as failed:
            error = failed
        for one in self.setup.strategy.gather(error):
            if one is not None:
                raise one
        return cast(T, result)

    def with_columns(self, rollouts: list[Rollout]) -> list[Rollout]:
        """The rollouts with the reference's log-probabilities and the critic's values, where there are such."""
        policy, critic, reference = self.setup.model, self.critic, self.reference or self.setup.model

        def logprobs(packed: Batch) -> torch.Tensor:
            with without_lora(reference):
                return self.logprobs(reference, packed)

        compute: dict[str, Callable[[Batch], torch.Tensor]] = {}
        if self.options.reference:
            compute["reference"] = logprobs
        if critic is not None:
            compute["values"] = lambda packed: critic.head(hidden_states(critic.trunk or policy, packed))
        seq_len, device = self.setup.recipe.batch.seq_len, self.setup.device
        for name, of_batch in compute.items():
            found = values_by_token(of_batch, rollouts, seq_len, self.at_once, device)
            rollouts = [replace(one, columns={**one.columns, name: column}) for one, column in zip(rollouts, found)]
        return rollouts

    def logprobs(self, model: Transformer, packed: Batch) -> torch.Tensor:
        return target_logprobs(model, hidden_states(model, packed), packed, self.options.temperature)

    @torch.no_grad()
    def moved(self) -> float:
        """How far the policy has come from the one that sampled the last rollout: KL in nats per token."""
        if not self.documents.ids:
            return 0.0
        total, tokens = 0.0, 0
        packed = pack_once(self.documents, self.setup.recipe.batch.seq_len)
        for batch in split_into_micro_batches(packed, self.at_once):
            batch = batch.to(self.setup.device)
            total += float(k3(batch.columns["logprobs"], self.logprobs(self.setup.model, batch)).sum())
            tokens += batch.num_valid_tokens
        return total / tokens

    def gather(self, rollouts: list[Rollout], prompts: Sequence[Prompt]) -> list[Rollout]:
        """The rollouts of all processes. Prompts know how to grade, and stay: all processes have the same."""
        mine = [{name: getattr(one, name) for name in CARRIED} for one in rollouts]
        return [
            Rollout(prompts[one["group"]], **one) for share in self.setup.strategy.gather(mine) for one in share
        ]

    def steps(self, epochs: float) -> int:
        raise UserError(BUDGET)

    def epoch(self, k: int) -> float:
        return 0.0

    # ------------------------------------------------------------------------------- metrics and state

    def metrics(self, seconds: float, steps: int) -> dict[str, float]:
        """Of the rollouts that were learned from: mean reward, its parts and length; seconds of a step's parts."""
        found = {name: value / steps for name, value in self.totals.items()}
        self.totals.clear()
        return {"seconds_rollout": 0.0, "seconds_reward": 0.0, **found, "seconds_update": seconds / steps}

    def state_dict(self) -> dict[str, Any]:
        """What is still to be learned from, and what the prompts and the algorithm remember."""
        if self.iteration < 0:
            return {}
        documents = {name: getattr(self.documents, name) for name in DOCUMENTS}
        state = {"iteration": self.iteration, "documents": _tensors(documents), "means": self.means}
        return {**state, "prompts": self.prompts.state_dict(), "estimator": self.estimator.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration, self.estimator = state.get("iteration", -1), Estimator(self.options)
        self.prompts.load_state_dict(state.get("prompts", {}))
        self.totals.clear()
        if state:
            self.means, self.documents = state["means"], MemoryDocuments(**_arrays(state["documents"]))
            self.estimator.load_state_dict(state["estimator"])


def with_answers(rollouts: list[Rollout], seq_len: int) -> list[Rollout]:
    """The rollouts. UserError where one has no answer: of files and of the world that is known before, but prompts
    of an environment are made one by one."""
    if not all(one.length for one in rollouts):
        raise UserError(f"a prompt of rl.env leaves no room for an answer in batch.seq_len {seq_len}; raise that")
    return rollouts


def make_sampler(setup: Setup) -> Sampler:
    """What samples the answers: this process, or a server."""
    options = setup.recipe.rl
    if options.server:
        return RemoteEngine(options.server, setup.model, setup.tokenizer, setup.run / "policy", options.temperature)
    return Engine(setup.model, max_batch=options.prompts * options.group_size)


def select(documents: MemoryDocuments, chosen: np.ndarray) -> MemoryDocuments:
    """Some of the documents, in this order."""
    return MemoryDocuments(
        [documents.ids[at] for at in chosen],
        [documents.masks[at] for at in chosen],
        {name: [values[at] for at in chosen] for name, values in documents.columns.items()},
        {name: values[chosen] for name, values in documents.document_columns.items()},
        documents.group,
    )


def _tensors(tree: Any) -> Any:
    """The same with tensors for arrays: `torch.load` reads nothing else from a file that nobody vouches for."""
    return _map(tree, np.ndarray, torch.from_numpy)


def _arrays(tree: Any) -> Any:
    return _map(tree, torch.Tensor, lambda tensor: tensor.numpy())


def _map(tree: Any, kind: type, change: Any) -> Any:
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, dict):
        return {name: _map(value, kind, change) for name, value in tree.items()}
    return [_map(value, kind, change) for value in tree] if isinstance(tree, list) else tree
