"""What goes wrong in reinforcement learning without any error: found in what was measured lately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RECENT = 10
"""rollouts that are looked at"""
DEGENERATE = 0.9
"""share of groups without a difference above which next to nothing is learned"""
FALL = 0.05
"""of the held-out score that is worth a word"""
RISE = 0.25
"""of a part of the reward, in standard deviations among answers"""


def no_variance(recent: Sequence[Mapping[str, float]]) -> str | None:
    """`recent`: what was measured of the last rollouts (`estimate.means_of`)."""
    if len(recent) < RECENT or any(one["reward_std"] > 0 for one in recent[-RECENT:]):
        return None
    return (
        f"all answers of the last {RECENT} rollouts earned the same, so nothing is learned: the prompts are too "
        "easy or too hard, or the reward cannot tell answers apart"
    )


def degenerate_groups(recent: Sequence[Mapping[str, float]]) -> str | None:
    """Only where groups have several answers."""
    shares = [1 - one["informative"] for one in recent[-RECENT:] if "informative" in one]
    if len(shares) < RECENT or no_variance(recent) or sum(shares) / RECENT <= DEGENERATE:
        return None
    return (
        f"in {sum(shares) / RECENT:.0%} of the groups all answers earn the same, and teach nothing: try "
        "--rl.curriculum, prompts of another difficulty, the reward partial, or more answers to a prompt"
    )


def hacked(history: Sequence[Mapping[str, float]], spreads: Mapping[str, float]) -> str | None:
    """A part of the reward is hacked when it rises while the held-out score falls.

    history  of all evaluations: `score`, and the mean of each part among the held-out answers
    spreads  the largest standard deviation of each part among the answers of an evaluation
    """
    best = max(history, key=lambda one: one["score"], default={})
    if not best or best["score"] - history[-1]["score"] < FALL:
        return None
    for name, deviation in spreads.items():
        then, now = best.get(name, 0.0), history[-1].get(name, 0.0)
        if now - then > RISE * deviation:
            rose = f"{name} rose from {then:.3g} to {now:.3g}"
            fell = f"the held-out score fell from {best['score']:.1%} to {history[-1]['score']:.1%}"
            return f"{fell} while the reward {rose}: it may be hacked; read samples.jsonl"
    return None
