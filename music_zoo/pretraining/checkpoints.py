"""Checkpoints of a training: variables of model and optimizer and the history, in one file, whole or absent.

Keras' own `BackupAndRestore` overwrites its only copy in place, and does not see damage.
"""

import csv
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
from keras import ops
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from music_zoo.errors import PretrainingError
from music_zoo.files import replacing

log = logging.getLogger(__name__)

CHECKPOINT, PREVIOUS, HISTORY = "checkpoint.safetensors", "checkpoint.previous.safetensors", "log.csv"


class Checkpoint(keras.callbacks.Callback):
    """Saves a training after every epoch, and takes it up where the last epoch ended.

    Call `restore` before `fit`, and give `fit` the epoch that it returns as `initial_epoch`. Data that depend
    on seed, epoch and number of a batch alone then make the resumed run equal to an uninterrupted one. The
    last two checkpoints are kept. A loss that is not finite stops the training before it could be saved.

    Args:
        folder: Where the files go: checkpoints and `log.csv`, the history of all epochs.
        settings: Of the run; a checkpoint of other settings is refused.

    Attributes:
        history: The logs of every finished epoch.
    """

    def __init__(self, folder: Path, settings: Mapping):
        super().__init__()
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings))
        self.history: list[dict[str, float]] = []

    # ---- Keras' hooks -------------------------------------------------------------------------------------

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop at a loss that is not finite."""
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            path, epochs = self.folder / CHECKPOINT, len(self.history)
            kept = f"{path} holds the state after epoch {epochs}" if epochs else "nothing was saved yet"
            raise PretrainingError(
                f"The loss became {loss} in batch {batch + 1} of epoch {epochs + 1}; {kept}. Start again "
                "with a lower learning rate, a longer warm-up, or clipped gradients."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Save."""
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        self.save()

    # ---- files --------------------------------------------------------------------------------------------

    def epochs(self) -> int:
        """Return how many epochs the last checkpoint has seen; 0 if none can be read.

        Raises:
            PretrainingError: It is of other settings.
        """
        for path in (self.folder / CHECKPOINT, self.folder / PREVIOUS):
            try:
                with safe_open(path, framework="numpy") as file:
                    about = json.loads(file.metadata()["music_zoo"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                continue
            self._check(path, about)
            return len(about["history"])
        return 0

    def save(self) -> None:
        """Write the checkpoint, keep the one before, and rewrite the history.

        Raises:
            OSError: The disk is full or not to be written; the earlier checkpoint is still there.
        """
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        tensors = {name: np.array(ops.convert_to_numpy(v)) for name, v in _variables(self.model).items()}
        about = {"settings": self.settings, "history": self.history}
        about["digest"] = _digest(tensors, about)
        path = self.folder / CHECKPOINT
        with replacing(path) as temporary:
            _save(tensors, temporary, {"music_zoo": json.dumps(about)})
            if path.exists():
                path.replace(self.folder / PREVIOUS)
        with replacing(self.folder / HISTORY) as temporary, temporary.open("w", newline="") as file:
            names = sorted({name for row in self.history for name in row})
            writer = csv.DictWriter(file, ["epoch", *names])
            writer.writeheader()
            writer.writerows({"epoch": number} | row for number, row in enumerate(self.history, start=1))

    def restore(self, model: keras.Model, say: Callable[[str], None] = log.warning) -> int:
        """Set a compiled model to the last checkpoint, and return the number of epochs that it has seen.

        Args:
            model: As it was built for the run that was interrupted.
            say: Told if the last checkpoint is damaged and the one before is taken.

        Raises:
            PretrainingError: Checkpoints, all of them damaged, or one of another model or other settings.
        """
        damaged = []
        for path in (self.folder / CHECKPOINT, self.folder / PREVIOUS):
            if not path.exists():
                continue
            try:
                tensors, about = _load(path)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                damaged.append(f"{path} ({error})")
                continue
            if damaged:
                say(f"damaged: {damaged[0]}; taking the checkpoint before")
            self._set(model, path, tensors, about)
            return len(self.history)
        if damaged:
            raise PretrainingError(
                f"No checkpoint can be read: {'; '.join(damaged)}. Restore one from a copy, or delete "
                "them to start anew."
            )
        return 0

    def _check(self, path: Path, about: dict) -> None:
        other = [
            f"{name}: {about['settings'].get(name)!r}, now {self.settings.get(name)!r}"
            for name in sorted(about["settings"].keys() | self.settings.keys())
            if about["settings"].get(name) != self.settings.get(name)
        ]
        if other:
            raise PretrainingError(
                f"{path} is of a run with other settings ({'; '.join(other)}). Use those, or another output "
                "folder."
            )

    def _set(self, model: keras.Model, path: Path, tensors: dict[str, np.ndarray], about: dict) -> None:
        self._check(path, about)
        variables = _variables(model)
        shapes = {name: tuple(v.shape) for name, v in variables.items()}
        found = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != found:
            differing = min(name for name, _ in shapes.items() ^ found.items())
            raise PretrainingError(
                f"{path} is of another model: {differing!r} is {found.get(differing, 'absent')} there and "
                f"{shapes.get(differing, 'absent')} here. Use the version of music_zoo that wrote it, or "
                "another output folder."
            )
        for name, variable in variables.items():
            variable.assign(tensors[name])
        self.history = about["history"]


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return everything that training changes, by place: paths hold numbers that count a session's layers."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    named = {f"model {number} {v.name}": v for number, v in enumerate(model.variables)}
    return named | {f"optimizer {number}": v for number, v in enumerate(model.optimizer.variables)}


def _digest(tensors: Mapping[str, np.ndarray], about: Mapping) -> str:
    digest = hashlib.sha256(json.dumps([about["settings"], about["history"]]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _save(tensors: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # which is no OSError where the disk is full
        raise OSError(f"{path.parent}: the checkpoint could not be written: {error}") from error


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Return tensors and description.

    Raises:
        SafetensorError, OSError, ValueError, KeyError, TypeError: The file is damaged.
    """
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["music_zoo"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if _digest(tensors, about) != about["digest"]:
        raise ValueError("its content is not what was written")
    return tensors, about
