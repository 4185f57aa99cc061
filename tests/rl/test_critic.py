"""The critic: a head on the policy's hidden states, or a model of its own."""

import pytest
import torch
from tests.helpers import make_trainer

from minimind.data.batches.batch import IGNORE
from minimind.losses.cross_entropy import hidden_states


@pytest.mark.parametrize("kind", ["head", "model"])
def test_it_learns_what_answers_earn_and_does_not_move_the_policy(grpo, tmp_path, kind):
    """From 0 everywhere towards returns that follow from the last token, by the value term alone."""
    changes = {"rl__advantage": "gae", "rl__critic": kind, "rl__value_clip": 0}
    trainer = make_trainer(grpo(tmp_path / "run", **changes))
    batch, model, objective = trainer.source.step(0), trainer.model, trainer.objective
    assert not batch.columns["values"].any()
    mask = batch.targets != IGNORE
    batch.columns["returns"] = (batch.tokens % 2) * mask.float()
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    errors = []
    for _ in range(30):
        loss = objective(model, batch).losses["value"] / objective.units(batch)["value"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert errors[-1] < 0.7 * errors[0]
    with torch.no_grad():
        values = objective.critic(hidden_states(model, batch), batch)
    again = trainer.source.step(0)  # the same answers, with what it says now recorded
    assert torch.equal(again.tokens, batch.tokens)
    assert again.columns["values"][mask].tolist() == pytest.approx(values[mask].tolist(), abs=1e-5)
    assert not again.columns["values"][~mask].any()
