"""What a mapping table is made of: which entries of an original checkpoint make each of our tensors.

A table is read from our side: the classifier to be filled says which tensors it needs, the table says for
each where it comes from. So nothing is forgotten, and what remains of a checkpoint is what nobody asked for.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

#: From a match of our name to a name in the checkpoint: a template such as `r"layer\1.conv"`, or a function.
Template = str | Callable[[re.Match], str]


class Origin(NamedTuple):
    """Where one of our tensors comes from: names in the checkpoint, and a function of those arrays."""

    names: tuple[str, ...]
    make: Callable[..., np.ndarray]


def same(tensor: np.ndarray) -> np.ndarray:
    """Return the tensor."""
    return tensor


def channels_last(kernel: np.ndarray) -> np.ndarray:
    """PyTorch's `(outputs, inputs, *window)` to `(*window, inputs, outputs)`, for linear layers, too."""
    return np.moveaxis(kernel, (0, 1), (-1, -2))


#: For the last word of our name: the last word of PyTorch's, and how to get from theirs to ours.
PYTORCH = {
    "kernel": (".weight", channels_last),
    "bias": (".bias", same),
    "gamma": (".weight", same),
    "beta": (".bias", same),
    "moving_mean": (".running_mean", same),
    "moving_variance": (".running_var", same),
}
#: The same for a checkpoint of Keras, see `music_zoo.hub.checkpoints.read_keras_h5`.
KERAS = {leaf: (f"/{leaf}", same) for leaf in PYTORCH}


@dataclass(frozen=True)
class Table:
    """A mapping table.

    Attributes:
        modules: For a pattern that matches all but the last word of our name (`backbone.layer1_conv`): the
            layer's name in the checkpoint. `leaves` does the rest.
        tensors: For a pattern that matches all of our name: names in the checkpoint and a function of their
            arrays, for whatever is not layer by layer the same. Looked at before `modules`.
        rename: Pairs for `re.sub` on the checkpoint's names, before all else.
        constants: Patterns that match the beginning of names in the checkpoint that are no weights of ours.
        leaves: `PYTORCH` or `KERAS`.
    """

    modules: Mapping[str, Template]
    tensors: Mapping[str, tuple[tuple[Template, ...], Callable[..., np.ndarray]]] = field(
        default_factory=dict
    )
    rename: tuple[tuple[str, str], ...] = ()
    constants: tuple[str, ...] = ()
    leaves: Mapping[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = field(
        default_factory=lambda: PYTORCH
    )

    def origin(self, name: str) -> Origin | None:
        """Return where our tensor comes from, or None if the table does not say."""
        for pattern, (templates, make) in self.tensors.items():
            if match := re.fullmatch(pattern, name):
                return Origin(tuple(_filled(template, match) for template in templates), make)
        module, _, leaf = name.rpartition(".")
        for pattern, template in self.modules.items():
            if (match := re.fullmatch(pattern, module)) and leaf in self.leaves:
                theirs, make = self.leaves[leaf]
                return Origin((_filled(template, match) + theirs,), make)
        return None

    def renamed(self, name: str) -> str:
        """Return the name that `modules` and `tensors` know for an entry of a checkpoint."""
        for pattern, replacement in self.rename:
            name = re.sub(pattern, replacement, name)
        return name

    def is_constant(self, name: str) -> bool:
        """Whether an entry of a checkpoint, by its new name, is no weight."""
        return any(re.match(pattern, name) for pattern in (r".*\bnum_batches_tracked$", *self.constants))


def _filled(template: Template, match: re.Match) -> str:
    return match.expand(template) if isinstance(template, str) else template(match)
