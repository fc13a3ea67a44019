"""Trainings that are interrupted go on as if they had not been."""

import torch
from training import Stage, warm_up_and_fall

STEPS = 12


def train(folder, until=STEPS):
    """Learn a line; raise KeyboardInterrupt before step `until`. Returns the weights."""
    torch.manual_seed(1)
    network = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)

    def restore(state):
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])

    def state():
        return {"network": network.state_dict(), "optimizer": optimizer.state_dict()}

    stage = Stage(folder, "line", STEPS, state=state, restore=restore)
    for step in stage.steps():
        if step == until:
            raise KeyboardInterrupt
        warm_up_and_fall(optimizer, 1e-2, step, STEPS)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = ((network(x).sum(1) - x.sum(1)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(loss=loss.item())
    return network.weight


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    monkeypatch.setattr("training.CHECKPOINT_SECONDS", 0)
    try:
        train(tmp_path / "cut", until=7)
    except KeyboardInterrupt:
        assert (tmp_path / "cut" / "line.pt").exists()
    assert torch.equal(train(tmp_path / "cut"), whole)
    assert (tmp_path / "cut" / "line.csv").read_text().startswith("step,loss")


def test_a_training_that_is_done_has_nothing_left(tmp_path):
    done = train(tmp_path)
    assert torch.equal(train(tmp_path, until=0), done)
