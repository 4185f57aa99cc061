"""Pretraining: a model learns to continue plain text, from scratch."""

from __future__ import annotations

from minimind.stages.stage import Stage
from minimind.train.objective import NextToken

STAGE = Stage("pretrain", lambda setup: NextToken(), kind="pretrain", from_model=False)
