"""Play episodes with the present weights, and lay them out as documents to train on.

Nothing is tokenized twice: a model learns from the very ids that it sampled, which a text made of them and encoded
again may not give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from minimind.data.batches.documents import MemoryDocuments
from minimind.infer.conversation import Transcript, message_of
from minimind.infer.events import StopReason
from minimind.infer.request import Completion
from minimind.infer.sampler import SamplingParams
from minimind.rl.types import Env, Rollout, columns_of_parts
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.messages import Message


class Pending(Protocol):
    """A prompt that was submitted; once it has a stop_reason, it has a completion."""

    prompt: list[int]
    stop_reason: StopReason | None

    def completion(self) -> Completion:
        """Raises the error that ended it."""


class Sampler(Protocol):
    """What samples tokens: `infer.engine.Engine` here, `infer.remote_engine.RemoteEngine` at a server."""

    def refresh(self) -> None:
        """Take over the model's present weights, with no request under way."""

    def submit(self, prompt: Sequence[int], params: SamplingParams) -> Pending:
        """Queue a prompt."""

    def step(self) -> None:
        """Bring the requests forward; afterwards some may have ended."""

    def cancel(self, requests: Sequence[Any]) -> None:
        """Give up those of the requests that have not ended."""


@dataclass
class Episode:
    """An environment, and what was said in it so far."""

    env: Env
    seed: int
    messages: list[Message]
    transcript: Transcript = field(default_factory=Transcript)
    parts: dict[str, float] = field(default_factory=dict)
    turns: int = 0
    text: str = ""
    stop_reason: StopReason = "length"
    request: Pending | None = None
    """of the turn that is being sampled; None when the episode is over"""


def run_episodes(
    engine: Sampler,
    tokenizer: Tokenizer,
    envs: Sequence[Env],
    params: SamplingParams,
    seeds: Sequence[int],
    longest: int,
    think: bool = False,
) -> list[Rollout]:
    """Play all episodes at once, in the engine's continuous batch: one whose turn has ended goes on at once.

    An episode depends on the engine's weights, its environment and its seed alone: so a resumed training samples
    the same. The recorded log-probabilities are those of the distribution that the tokens were sampled from only if
    `params` truncates nothing (top_p 1, top_k 0).

    params   of each turn
    longest  most tokens of an episode, at which it ends
    think    whether the model thinks before each answer
    """
    asked = {id(env.prompt): env.prompt for env in envs}  # once for all of a group
    first_prompts = {
        key: Transcript().prompt(tokenizer, one.messages, list(one.tools) or None, think)
        for key, one in asked.items()
    }
    episodes = [Episode(env, seed, list(env.prompt.messages)) for env, seed in zip(envs, seeds, strict=True)]

    def ask(episode: Episode) -> None:
        """Begin the episode's next turn, if there is room for one."""
        prompt, tools = first_prompts[id(episode.env.prompt)], list(episode.env.prompt.tools) or None
        if episode.turns:
            prompt = episode.transcript.prompt(tokenizer, episode.messages, tools, think)
        room = min(params.max_tokens, longest - len(prompt))
        episode.request = None
        if room > 0:
            seed = episode.seed if not episode.turns else _seed_of(episode.seed, episode.turns)
            episode.request = engine.submit(prompt, replace(params, seed=seed, max_tokens=room))
        else:
            episode.stop_reason = "length"

    def take_answer(episode: Episode, request: Pending) -> None:
        """Record what was sampled, and let the environment say what comes of it."""
        done = request.completion()
        ids, logprobs = done.ids, done.logprobs
        if done.stop_id is not None:
            ids, logprobs = [*ids, done.stop_id], [*logprobs, done.stop_logprob]
        episode.transcript.extend(request.prompt, ids, logprobs)
        episode.text = tokenizer.decode(done.ids, skip_special=False).strip()  # a stray control token is a mistake
        episode.stop_reason = done.stop_reason
        message = message_of(done.ids, tokenizer, think)
        result = episode.env.step(message, episode.text, done.stop_reason)
        episode.messages += [message, *result.messages]
        episode.turns += 1
        for name, value in result.parts.items():
            episode.parts[name] = episode.parts.get(name, 0.0) + value
        episode.request = None
        if not result.done:
            ask(episode)

    try:
        for episode in episodes:
            ask(episode)
        while active := [(one, one.request) for one in episodes if one.request is not None]:
            engine.step()
            for episode, request in active:
                if request.stop_reason is not None:
                    take_answer(episode, request)
    finally:
        engine.cancel([episode.request for episode in episodes if episode.request is not None])
    return [
        Rollout(
            one.env.prompt, one.transcript.ids, one.transcript.mask, one.transcript.logprobs,
            one.messages, one.text, one.stop_reason, one.parts,
        )
        for one in episodes
    ]  # fmt: skip


def episode_seeds(seed: int, iteration: int, group: int, count: int) -> list[int]:
    """Of the answers to one prompt."""
    return np.random.SeedSequence([seed, iteration, group]).generate_state(count, np.uint64).tolist()


def _seed_of(seed: int, turn: int) -> int:
    return int(np.random.SeedSequence([seed, turn]).generate_state(1, np.uint64)[0])


def to_documents(
    rollouts: Sequence[Rollout], columns: Mapping[str, Sequence[np.ndarray | float]]
) -> MemoryDocuments:
    """A document of each rollout, what was sampled trained on.

    columns  by name what each rollout's sampled tokens get: one value for all, or one for each of its ids

    Token columns, 0 where nothing was sampled: `logprobs` as recorded, the rollouts' own and `columns`. Document
    columns: `group`, `reward`, `length`, and a column `reward_…` for each part of the reward.
    """
    masks = [np.array(rollout.mask, np.uint8) for rollout in rollouts]
    named: dict[str, Sequence[np.ndarray | float]] = {
        "logprobs": [np.array(rollout.logprobs) for rollout in rollouts],
        **{name: [rollout.columns[name] for rollout in rollouts] for name in rollouts[0].columns},
        **columns,
    }
    of_documents = {"reward": [rollout.reward for rollout in rollouts]}
    of_documents |= {f"reward_{name}": column for name, column in columns_of_parts(rollouts).items()}
    return MemoryDocuments(
        ids=[np.array(rollout.ids) for rollout in rollouts],
        masks=masks,
        columns={
            name: [(mask * value).astype(np.float32) for mask, value in zip(masks, values, strict=True)]
            for name, values in named.items()
        },
        document_columns={
            "group": np.array([rollout.group for rollout in rollouts]),
            **{name: np.array(values, np.float32) for name, values in of_documents.items()},
        },
    )
