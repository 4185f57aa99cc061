"""What an answer earns. A reward is a function over a batch of rollouts, `(Sequence[Rollout]) -> list[float]`."""

from minimind.rl.rewards.compose import Rewards, make_rewards

__all__ = ["Rewards", "make_rewards"]
