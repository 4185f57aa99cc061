"""LoRA fine-tuning: sft of a small adapter beside a frozen model (see model/lora.py)."""

from __future__ import annotations

from dataclasses import replace

from minimind.stages import sft

LORA = {"lora": {"rank": 8}, "optimizer": {"learning_rate": 0.02}}  # a multiple of sft's: it starts at nothing

STAGE = replace(sft.STAGE, name="lora", defaults={**sft.STAGE.defaults, **LORA})
