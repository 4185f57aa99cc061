"""The stages by name; each is a small file. The loop is the trainer's."""

from minimind.stages import distill, dpo, grpo, lora, pretrain, reason, reward, sft
from minimind.stages.stage import Stage

MODULES = pretrain, sft, lora, reason, dpo, reward, distill, grpo
STAGES: dict[str, Stage] = {module.STAGE.name: module.STAGE for module in MODULES}
