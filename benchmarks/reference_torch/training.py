"""Steps of SimCLR and MoCo in plain PyTorch, to measure `music_zoo.pretraining` against."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from reference_torch import build


def encoder(backbone: dict) -> nn.Sequential:
    """Return the network of a `backbone` config without its last, linear layer."""
    return build(backbone, 1)[:-1].train()


def simclr(network: nn.Module, projector: nn.Module, temperature: float, learning_rate: float):
    """Return the step: a function of the two views that gives the loss."""
    model = nn.Sequential(network, projector)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, eps=1e-7)

    def step(first, second) -> float:
        vectors = F.normalize(torch.cat([model(first), model(second)]), dim=1)
        logits = vectors @ vectors.T / temperature
        logits.fill_diagonal_(-1e9)
        clips = torch.arange(len(vectors))
        loss = F.cross_entropy(logits, clips.roll(len(first)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def moco(
    network: nn.Module,
    projector: nn.Module,
    queue: torch.Tensor,
    temperature: float,
    momentum: float,
    learning_rate: float,
    weight_decay: float,
):
    """Return the step: a function of the two views that gives the loss and whose `queue` moves on."""
    model = nn.Sequential(network, projector)
    key_model = copy.deepcopy(model).requires_grad_(False)
    decays = [p.ndim > 1 and "table" not in name for name, p in model.named_parameters()]
    parameters = list(zip(model.parameters(), decays, strict=True))
    groups = [
        {"params": [p for p, decay in parameters if decay], "weight_decay": weight_decay},
        {"params": [p for p, decay in parameters if not decay], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, learning_rate, eps=1e-7)
    queue, place = queue.clone(), 0

    def step(first, second) -> float:
        nonlocal place
        query = F.normalize(model(first), dim=1)
        with torch.no_grad():
            for ours, theirs in zip(key_model.parameters(), model.parameters(), strict=True):
                ours.mul_(momentum).add_(theirs, alpha=1 - momentum)
            key = F.normalize(key_model(second), dim=1)
        positive = (query * key).sum(1, keepdim=True)
        logits = torch.cat([positive, query @ queue.T.clone()], 1) / temperature
        loss = F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[place : place + len(key)] = key
        place = (place + len(key)) % len(queue)
        return loss.item()

    return step
