"""The stages by name; each is a small file. The loop is the trainer's."""

from minimind.stages import distill, dpo, lora, pretrain, reason, reward, rl, sft
from minimind.stages.stage import Stage

MODULES = pretrain, sft, lora, reason, dpo, reward, distill
STAGES: dict[str, Stage] = {stage.name: stage for stage in [*(module.STAGE for module in MODULES), *rl.STAGES]}
