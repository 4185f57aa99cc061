"""Pretraining: a model learns to continue plain text, from zero."""

from __future__ import annotations

from typing import Any

from minimind.train.objective import NextToken

KIND = "pretrain"
NEEDS_START = False
OBJECTIVE = NextToken
DEFAULTS: dict[str, Any] = {"stage": "pretrain"}
