"""The calibrators by the names that presets and `calibrate` know them by."""

from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.isotonic import Isotonic
from music_zoo.calibration.temperature import Temperature
from music_zoo.calibration.vector_scaling import VectorScaling

CALIBRATORS: dict[str, type[Calibrator]] = {
    "temperature": Temperature,
    "vector": VectorScaling,
    "isotonic": Isotonic,
}
