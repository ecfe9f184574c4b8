"""The calibrators by name, and their place in a model, where one can take another's."""

from collections.abc import Mapping

import keras

from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.isotonic import Isotonic
from music_zoo.calibration.temperature import Temperature
from music_zoo.calibration.vector_scaling import VectorScaling

#: By the names that presets and `calibrate` know them by.
CALIBRATORS: dict[str, type[Calibrator]] = {
    each.kind: each for each in (Temperature, VectorScaling, Isotonic)
}


def new_calibrator(kind: str, task: str, classes: int) -> Calibrator:
    """Return a built calibrator that has not been fitted.

    Raises:
        ValueError: No such kind.
    """
    settings = {"task": task} if kind == Isotonic.kind else {}
    layer = calibrator_from_config({"kind": kind, "config": settings})
    layer.build((None, classes))
    return layer


def calibrator_from_config(config: Mapping | None) -> Calibrator | None:
    """Return a calibrator that has not been fitted, of what a preset's config says; None of None.

    Raises:
        ValueError: No such kind, or settings that it cannot have.
    """
    if config is None:
        return None
    if config["kind"] not in CALIBRATORS:
        raise ValueError(f"Calibrators are {', '.join(CALIBRATORS)}; got {config['kind']!r}.")
    return CALIBRATORS[config["kind"]](**config["config"], name="calibrator")


def calibrator_config(calibrator: Calibrator) -> dict:
    """Return what a model's config says of its calibrator: of a temperature, nothing."""
    if calibrator.kind == Temperature.kind:
        return {}
    return {"calibrator": {"kind": calibrator.kind, "config": calibrator.settings()}}


def calibration(calibrator: Calibrator | None, task: str, classes: int) -> keras.Sequential:
    """Return a calibrator's place in a network: Keras lets the layer in it be changed.

    Args:
        calibrator: Its layer; a temperature of 1 if None.
        task: Of the network.
        classes: Their number.

    Raises:
        ValueError: A calibrator for another task.
    """
    layer = new_calibrator(Temperature.kind, task, classes) if calibrator is None else calibrator
    if layer.settings().get("task", task) != task:
        raise ValueError(f"The calibrator is for {layer.settings()['task']} outputs, the model is {task}.")
    if not layer.built:  # here, so that its weights' names do not begin with those of layers around it
        layer.build((None, classes))
    place = keras.Sequential([layer], name="calibration")
    place.dtype_policy = "float32"
    return place
