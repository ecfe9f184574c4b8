"""Blocks of the references."""

from collections.abc import Callable

from torch import nn
from torch.nn import functional as F

CONV = {1: nn.Conv1d, 2: nn.Conv2d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d}


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Shortcut(nn.Module):
    """What a module makes of its input, added to it."""

    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return x + self.fn(x)


def sequence(**modules: nn.Module) -> nn.Sequential:
    """Return modules one after another, under their names."""
    result = nn.Sequential()
    for name, module in modules.items():
        result.add_module(name, module)
    return result


def image() -> nn.Module:
    """`(batch, n_mels, frames)` to `(batch, 1, n_mels, frames)`."""
    return Apply(lambda x: x.unsqueeze(1))


def mean() -> nn.Module:
    """`(batch, channels, ...)` to `(batch, channels)`."""
    return Apply(lambda x: x.flatten(2).mean(2))


def maximum() -> nn.Module:
    """`(batch, channels, ...)` to `(batch, channels)`."""
    return Apply(lambda x: x.flatten(2).amax(2))


def conv_block(
    dims, inputs, outputs, kernel=3, stride=1, padding=None, pool=None, activation=nn.ReLU
) -> nn.Sequential:
    """Convolution, batch normalisation, activation, maximum."""
    padding = kernel // 2 if padding is None else padding
    parts = {"conv": CONV[dims](inputs, outputs, kernel, stride, padding), "bn": NORM[dims](outputs)}
    return sequence(**parts, activation=activation(), **({"pool": POOL[dims](pool)} if pool else {}))


class Residual(nn.Module):
    """Two convolutions around a shortcut with a third; with `excite`, channels weighed in between."""

    def __init__(self, dims, inputs, outputs, kernel=3, stride=1, padding=None, pool=None, excite=False):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv_1 = CONV[dims](inputs, outputs, kernel, stride, padding)
        self.bn_1 = NORM[dims](outputs)
        self.conv_2 = CONV[dims](outputs, outputs, kernel, 1, kernel // 2)
        self.bn_2 = NORM[dims](outputs)
        self.excite, self.project = excite, stride != 1 or inputs != outputs
        if excite:
            self.dense1, self.dense2 = nn.Linear(outputs, outputs), nn.Linear(outputs, outputs)
        if self.project:
            self.conv_3 = CONV[dims](inputs, outputs, kernel, stride, padding)
            self.bn_3 = NORM[dims](outputs)
        self.pool = POOL[dims](pool) if pool else nn.Identity()

    def forward(self, x):
        y = self.bn_2(self.conv_2(F.relu(self.bn_1(self.conv_1(x)))))
        if self.excite:
            weight = self.dense2(F.relu(self.dense1(y.mean(2)))).sigmoid()
            y = y * weight.unsqueeze(2)
        shortcut = self.bn_3(self.conv_3(x)) if self.project else x
        return self.pool(F.relu(y + shortcut))


def dense_block(width: int, classes: int) -> dict[str, nn.Module]:
    """Linear layer, batch normalisation, ReLU, head."""
    parts = {"dense1": nn.Linear(width, width), "bn": nn.BatchNorm1d(width), "relu": nn.ReLU()}
    return parts | {"dense2": nn.Linear(width, classes)}


def attend(query, key, value, heads: int, mask=None):
    """Multi-head attention: `(..., tokens, width)` three times to the same once.

    PyTorch's fast kernel wants exactly four axes, of `mask`, too: `(..., heads, queries, keys)`.
    """
    parts = (x.flatten(0, -3).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(*parts, mask).transpose(1, 2).flatten(2)
    return mixed.unflatten(0, query.shape[:-2])
