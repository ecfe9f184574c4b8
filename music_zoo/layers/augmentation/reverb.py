"""The reverberation of a room: Freeverb, as sox has it, in the frequency domain."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from music_zoo.layers.augmentation.base import Augmentation, known_samples

# Of Freeverb (Jezar at Dreampoint, 2000) as in sox's reverb.c: lengths of its filters in samples at 44.1 kHz,
# how much they differ between the channels, and the level of the reverberation.
_COMBS = np.array([1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617])
_ALL_PASSES = np.array([225, 341, 441, 556])
_STEREO_SPREAD = 12
_WET_GAIN = 0.015


@keras.saving.register_keras_serializable(package="music_zoo")
class Reverb(Augmentation):
    """Adds the reverberation of a room: the `reverb` of sox, which CLMR uses, that is, Freeverb.

    Eight comb filters in parallel, with a low-pass in their feedback, and four all-pass filters behind
    them; lengths and scales as in sox's `reverb.c`. The filters are recursive; here their common frequency
    response is written down in closed form and multiplied in the frequency domain, with a decaying weight
    on the signal that keeps what wraps around 60 dB down. Of a mono signal sox makes a left and a right
    channel, which CLMR averages: so does this. The result may leave -1..1; sox would cut it off there.

    Args:
        sample_rate: Of the waveforms, in Hz.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A sample rate below 1000 Hz. When called: waveforms of unknown length.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if sample_rate < 1000:
            raise ValueError(f"Reverb: `sample_rate` must be at least 1000 Hz, got {sample_rate}.")
        self.sample_rate = sample_rate
        scale = np.arange(100)[:, None] / 100 * 0.9 + 0.1
        rate = sample_rate / 44100
        alternate = np.array([1, -1] * 4) * _STEREO_SPREAD
        # By channel: of the combs by room size, `(100, 8)`, and of the all-passes, `(4,)`, in samples.
        self._combs = [
            (scale * rate * (_COMBS + channel * alternate) + 0.5).astype("int32") for channel in (0, 1)
        ]
        self._all_passes = [
            (rate * (_ALL_PASSES + channel * alternate[:4]) + 0.5).astype("int32") for channel in (0, 1)
        ]

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return `reverberance`, `damping` and `room_size` of each example, whole numbers from 0 to 99."""
        return {
            "reverberance": self.integers(inputs, 99),
            "damping": self.integers(inputs, 99),
            "room_size": self.integers(inputs, 99),
        }

    def apply(self, inputs: Any, reverberance: Any, damping: Any, room_size: Any) -> Any:
        """Return the waveforms with their reverberation."""
        samples = known_samples(self, inputs)
        # A power of 2, see `_combs_response`; combs much shorter than it, so that the weight stays moderate.
        longest = 4 * int(max(combs.max() for combs in self._combs))
        size = 1 << (max(samples, longest) - 1).bit_length()
        decay = 10.0 ** (-3 / size)  # the weight of a sample where that of the one before is 1
        weight = ops.convert_to_tensor(decay ** np.arange(samples), "float32")
        wet_real = wet_imag = 0.0
        for combs, all_passes in zip(self._combs, self._all_passes, strict=True):
            response = _combs_response(
                ops.take(combs, room_size, axis=0),
                _feedback(ops.cast(reverberance, "float32"))[:, None],
                ops.cast(damping, "float32")[:, None] / 100 * 0.3 + 0.2,
                size,
                decay,
            )
            real, imag = _product(response, _all_passes_response(all_passes, size, decay))
            wet_real, wet_imag = wet_real + real, wet_imag + imag
        signal = ops.rfft(inputs * weight, size)
        gain = _WET_GAIN / len(self._combs)
        wet = ops.irfft(_product(signal, (gain * wet_real, gain * wet_imag)), size)[:, :samples]
        return inputs + wet / weight

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"sample_rate": self.sample_rate}


def _feedback(reverberance: Any) -> Any:
    """Return the feedback of the combs as sox scales it, from 0.3 at a reverberance of 0 to 0.98 at 100."""
    return 1 - 0.7 * ops.power(0.02 / 0.7, reverberance / 100)


def _combs_response(delays: Any, feedback: Any, damping: Any, size: int, decay: float) -> tuple[Any, Any]:
    """Return the sum of comb filters as real and imaginary part, `(batch, size // 2 + 1)`.

    A comb delays its input plus `feedback` times its output behind a one-pole low-pass: its response is `1
    / (z^delay - feedback (1 - damping) / (1 - damping / z))`. Taken not at `z = exp(iw)`, but at `exp(iw) /
    decay`, it is that of the impulse response times `decay^n`, which fades within `size` samples where that
    of a large room would not.

    Args:
        delays: `(batch, combs)` int32, in samples.
        feedback: `(batch, 1)`.
        damping: `(batch, 1)`.
        size: Length of the Fourier transform, a power of 2.
        decay: Just below 1.
    """
    bins = np.arange(size // 2 + 1, dtype="int32")
    inverse = decay * np.exp(-2j * np.pi * bins / size)
    real = 1 - damping * ops.convert_to_tensor(inverse.real, "float32")
    imag = -damping * ops.convert_to_tensor(inverse.imag, "float32")
    low_pass = feedback * (1 - damping) / (ops.square(real) + ops.square(imag))
    loop_real, loop_imag = low_pass * real, -low_pass * imag
    sum_real = sum_imag = 0.0
    for comb in range(delays.shape[1]):
        delay = delays[:, comb : comb + 1]
        # The angle in whole steps: exact, also where the product overflows, as `size` is a power of 2.
        turns = ops.bitwise_and(ops.multiply(delay, bins), size - 1)
        angle = ops.cast(turns, "float32") * (2 * math.pi / size)
        growth = ops.exp(-math.log(decay) * ops.cast(delay, "float32"))
        real = growth * ops.cos(angle) - loop_real
        imag = growth * ops.sin(angle) - loop_imag
        inverse_power = 1 / (ops.square(real) + ops.square(imag))
        sum_real = sum_real + real * inverse_power
        sum_imag = sum_imag - imag * inverse_power
    return sum_real, sum_imag


def _all_passes_response(delays: np.ndarray, size: int, decay: float) -> tuple[Any, Any]:
    """Return the product of Freeverb's all-pass filters, at the same points as `_combs_response`."""
    bins = np.arange(size // 2 + 1)
    powers = decay**delays * np.exp(-2j * np.pi * (bins[:, None] * delays % size) / size)
    response = np.prod((1.5 * powers - 1) / (1 - 0.5 * powers), axis=1)
    return ops.convert_to_tensor(response.real, "float32"), ops.convert_to_tensor(response.imag, "float32")


def _product(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """Multiply complex numbers given as real and imaginary part."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
