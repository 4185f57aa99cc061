"""The routers of a model with experts during training: load balancing and router metrics.

One step's choices are counted on the device, over all micro-batches and processes; nothing waits for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from minimind.data.batches.batch import PADDING, Batch
from minimind.losses import routing as losses
from minimind.model import Transformer
from minimind.model.moe import MoE
from minimind.recipe import RouterOptions


class Routers:
    """Terms of the loss, biases and metrics of all routers, L of them, with E experts each: an `Auxiliary`."""

    name = "routers"

    def __init__(self, model: Transformer, options: RouterOptions, device: torch.device) -> None:
        self.options = options
        self.model = model
        self.gates = [block.mlp.gate for block in model.model.layers if isinstance(block.mlp, MoE)]
        self.top_k = model.config.num_experts_per_tok
        shape = (len(self.gates), model.config.num_experts)
        self.share_LE = torch.full(shape, 1 / model.config.num_experts, device=device)
        self.step_LF = torch.zeros(shape[0], shape[1] + 2, device=device)  # choices per expert, entropy, tokens
        self.window_LF = self.step_LF.clone()

    def begin_step(self) -> None:
        self.step_LF = torch.zeros_like(self.step_LF)

    def before_forward(self) -> None:
        self.model.routings = []

    def units(self, batch: Batch) -> dict[str, float]:
        tokens = float(batch.num_tokens)
        names = {"balance": self.options.balance in ("document", "global"), "router_z": self.options.z_weight > 0}
        return {name: tokens for name, used in names.items() if used}

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What is added to the loss, weighted, and averaged over the layers; counts the choices on the way."""
        routings, self.model.routings = self.model.routings, None
        assert routings is not None
        documents_N = batch.documents.flatten()
        kept_N = (documents_N != PADDING).float()
        balances, squares, seen = [], [], []
        for gate, share_E, (logits_NE, chosen_NK) in zip(self.gates, self.share_LE, routings, strict=True):
            scores_NE = gate.scores(logits_NE)
            # Sigmoids do not sum to one: as shares of their sum they are comparable between tokens.
            probabilities_NE = scores_NE / scores_NE.sum(-1, keepdim=True)
            if self.options.balance == "document":
                documents = batch.num_documents
                balances.append(losses.document_balance(probabilities_NE, chosen_NK, documents_N, documents))
            elif self.options.balance == "global":
                balances.append(losses.global_balance(probabilities_NE, share_E, kept_N))
            squares.append(losses.z_loss(logits_NE.to(scores_NE.dtype), kept_N))
            with torch.no_grad():
                counts_E = losses.tokens_per_expert(chosen_NK, kept_N, len(share_E))
                figures = torch.stack([losses.entropy(probabilities_NE, kept_N), kept_N.sum()])
                seen.append(torch.cat([counts_E, figures]))
        self.step_LF += torch.stack(seen)
        terms = {"router_z": self.options.z_weight * torch.stack(squares).mean()}
        if balances:
            terms["balance"] = self.options.weight * torch.stack(balances).mean()
        return {name: term for name, term in terms.items() if name in self.units(batch)}

    def step_totals(self) -> torch.Tensor:
        return self.step_LF

    @torch.no_grad()
    def end_step(self, step_LF: torch.Tensor, norm: torch.Tensor) -> None:
        """Take over one whole step's counts, summed over all processes; a step that was skipped moves no bias."""
        self.window_LF += step_LF
        choices_LE = step_LF[:, :-2]
        self.share_LE = choices_LE / choices_LE.sum(1, keepdim=True).clamp(min=1)
        if self.options.balance == "bias":
            wanted = (self.share_LE.mean(1, keepdim=True) - self.share_LE).sign()
            moves_LE = torch.where(torch.isfinite(norm), self.options.bias_rate * wanted, 0.0)
            for gate, move_E in zip(self.gates, moves_LE):
                gate.e_score_correction_bias += move_E

    def metrics(self) -> dict[str, Any]:
        """Since the last call, per layer: each expert's share of the choices, the router's entropy in nats; and how
        many choices were not computed (none ever: a figure to watch, not a setting)."""
        *choices_EL, entropy_L, tokens_L = self.window_LF.T
        shares_LE = torch.stack(choices_EL, 1) / (tokens_L[:, None] * self.top_k)
        dropped = tokens_L.sum() * self.top_k - torch.stack(choices_EL).sum()
        self.window_LF = torch.zeros_like(self.window_LF)
        load, entropy = shares_LE.tolist(), (entropy_L / tokens_L).tolist()
        return {"experts": {"load": load, "entropy": entropy, "dropped": int(dropped)}}

    def state_dict(self) -> dict[str, Any]:
        return {"share": self.share_LE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.share_LE = state["share"].to(self.share_LE.device)
