"""Reinforcement learning: prompts, sampled answers, their rewards and advantages."""
