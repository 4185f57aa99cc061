"""Checkpoints: whole or not at all, wherever the writing process is killed."""

import os
import shutil

import torch
from tests.helpers import assert_equal_trees, die_at_file_operation, make_trainer, start_function

from minimind.train.checkpoint import Checkpoints, Progress, load_checkpoint


def test_a_checkpoint_gives_back_what_was_saved(pretrain, tmp_path):
    trainer = make_trainer(pretrain(tmp_path / "run", optimizer__name="adamw"))
    trainer.fit()
    torch.manual_seed(7)
    state = trainer.step.state_dict()
    path = trainer.checkpoints.save(trainer.model, trainer.setup.tokenizer, state, trainer.progress)
    expected = torch.rand(3)
    other = make_trainer(pretrain(tmp_path / "other", optimizer__name="adamw", seed=5))
    training, progress = load_checkpoint(path, other.model)
    assert progress == trainer.progress
    assert torch.equal(torch.rand(3), expected)
    assert_equal_trees(dict(other.model.state_dict()), dict(trainer.model.state_dict()))
    other.prepare()
    other.step.load_state_dict(training)
    assert_equal_trees(other.step.state_dict(), state)


def save_and_be_killed_everywhere(argv):
    """Kill a process that saves a second checkpoint at each of its operations on files, one after the other."""
    trainer = make_trainer(argv)
    trainer.prepare()
    run = trainer.setup.run
    parts = (trainer.model, trainer.setup.tokenizer, trainer.step.state_dict())
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(*parts, Progress(step=1))
    before = run / "before"
    checkpoints.directory.rename(before)
    status, found = -1, []
    while status != 0 and len(found) < 200:
        shutil.rmtree(checkpoints.directory, ignore_errors=True)
        shutil.copytree(before, checkpoints.directory)
        child = os.fork()
        if child == 0:
            die_at_file_operation(run, len(found) + 1)
            checkpoints.save(*parts, Progress(step=2))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        newest, _ = checkpoints.newest_whole()
        assert newest is not None
        found.append(newest.name)
    assert status == 0
    assert len(found) > 25
    assert found == sorted(found)  # at one of the operations the new one is there, whole
    assert (found[0], found[-1]) == ("step-0000001", "step-0000002")
    assert [path.name for path in checkpoints.all()] == ["step-0000002"]


def test_a_kill_at_any_operation_leaves_a_whole_checkpoint(pretrain, tmp_path):
    log = tmp_path / "log"
    process = start_function(save_and_be_killed_everywhere, pretrain(tmp_path / "run"), log=log)
    process.join(200)
    assert process.exitcode == 0, log.read_text()
