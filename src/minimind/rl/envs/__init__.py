"""Environments: what a model's answer leads to, and what it earns there."""
