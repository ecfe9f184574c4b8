"""Draw what every augmentation does to a few seconds of music: the picture `docs/augmentations.png`.

    KERAS_BACKEND=torch python examples/show_augmentations.py --output docs/augmentations.png
    python examples/show_augmentations.py song.mp3 --start 60 --output augmentations.png

Waveforms are drawn as their log-mel spectrograms, with one reference level for all, so that louder is
brighter. What was drawn at random stands beneath each name.
"""

import argparse
import textwrap
from pathlib import Path

import keras
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from music_zoo import audio
from music_zoo.layers import STFT, Decibels, MelFilterBank
from music_zoo.layers import augmentation as augmentations
from music_zoo.plots import check_picture, save_figure

RATE = 22_050  # Hz
HOP = 512  # samples
N_MELS = 128
SECONDS = 4.0  # shown of the song
DECIBELS = 80.0


def main(arguments: list[str] | None = None) -> None:
    """Read, augment, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "song", type=Path, nargs="?", default=Path(__file__).parent / "demo.ogg", help="at least 12 s"
    )
    parser.add_argument("--start", type=float, default=4.0, help="where the part begins that is shown, in s")
    # The default makes a picture, on PyTorch, that shows something of each.
    parser.add_argument("--seed", type=int, default=551)
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    args = parser.parse_args(arguments)
    check_picture(args.output)

    song, _ = audio.load(args.song, RATE)
    start, length = round(args.start * RATE), round(SECONDS * RATE)
    if args.start < 0 or start + length > len(song) or len(song) < 3 * length:
        parser.error(
            f"{args.song} has {len(song) / RATE:.1f} s; expected at least {3 * SECONDS:.0f} s, and at least "
            f"{SECONDS:.0f} s from --start {args.start} on."
        )
    clip, other = song[start : start + length], song[:length]

    log_mel = LogMel(reference=clip)
    images = log_mel(np.stack([clip, other]))
    figure = Figure(figsize=(10, 11), layout="constrained")
    tiles = iter(figure.subplots(5, 4, sharey=True).ravel())
    draw(next(tiles), images[0], "the clip", f"{SECONDS:.0f} s of {args.song.name}")
    draw(next(tiles), images[1], "another clip", "the partner of LogMelMixup")
    seeds = [int(seed) for seed in np.random.default_rng(args.seed).integers(2**31, size=16)]
    for layer in segment_layers(images.shape[2], args.seed):
        show_segments(next(tiles), layer, log_mel(song[None]))
    for layer in image_layers(seeds[:8]):
        show(next(tiles), layer, images, lambda changed: changed)
    for layer in waveform_layers(seeds[8:]):
        show(next(tiles), layer, np.stack([clip, other]), log_mel)
    save_figure(figure, args.output)
    if args.output.suffix.lower() == ".png":  # in few colors it takes half the space
        few = Image.open(args.output).convert("RGB").quantize(64, dither=Image.Dither.NONE)
        few.save(args.output, optimize=True)
    print(f"wrote {args.output}")


def segment_layers(frames: int, seed: int) -> list[keras.layers.Layer]:
    """What cuts parts out of a track."""
    return [
        augmentations.RandomCrop(frames, seed=seed),
        augmentations.TwoSegments(frames, frames // 2, seed=seed),
    ]


def image_layers(seeds: list[int]) -> list[keras.layers.Layer]:
    """What changes a log-mel image; stronger than usual where one would see nothing."""
    return [
        augmentations.RandomResizedCrop((0.5, 0.8), (0.5, 0.8), seed=seeds[0]),
        augmentations.TimeWarping(40, seed=seeds[1]),
        augmentations.TimeMasking(30, seed=seeds[2]),
        augmentations.FrequencyMasking(24, seed=seeds[3]),
        augmentations.Gain(0.3, seed=seeds[4]),
        augmentations.EqualizerTilt(0.15, seed=seeds[5]),
        augmentations.LogMelMixup(0.8, seed=seeds[6]),
        augmentations.s3t(seed=seeds[7]),
    ]


def waveform_layers(seeds: list[int]) -> list[keras.layers.Layer]:
    """What changes a waveform."""
    return [
        augmentations.PolarityInversion(probability=1.0, seed=seeds[0]),
        augmentations.WhiteNoise(seed=seeds[1]),
        augmentations.WaveformGain(seed=seeds[2]),
        augmentations.HighLowPass(RATE, seed=seeds[3]),
        augmentations.Delay(RATE, seed=seeds[4]),
        augmentations.PitchShift(RATE, seed=seeds[5]),
        augmentations.Reverb(RATE, seed=seeds[6]),
        augmentations.clmr(RATE, seed=seeds[7]),
    ]


class LogMel:
    """Waveforms to images `(batch, n_mels, frames)`: 1 is a reference's loudest point, 0 is 80 dB below."""

    def __init__(self, reference: np.ndarray):
        self.power = keras.Sequential([STFT(n_fft=2048, hop_length=HOP), MelFilterBank(RATE, 2048, N_MELS)])
        loudest = float(keras.ops.max(self.power(reference[None])))
        self.decibels = Decibels(ref=loudest, amin=1e-20, top_db=None)

    def __call__(self, waveforms) -> np.ndarray:
        """Return the images."""
        decibels = keras.ops.convert_to_numpy(self.decibels(self.power(waveforms)))
        return np.clip(1 + decibels / DECIBELS, 0, 1)


def show(axes, layer: keras.layers.Layer, inputs: np.ndarray, to_images) -> None:
    """Draw what a layer, or a chain of them, makes of the first input."""
    inputs = keras.ops.convert_to_tensor(inputs)
    if isinstance(layer, augmentations.Chain):
        changed, drawn = layer(inputs, training=True), "several in a row"
    else:
        parameters = layer.draw(inputs)
        if "partner" in parameters:  # of two examples, each may be its own
            parameters["partner"] = keras.ops.convert_to_tensor([1, 0])
        changed, drawn = layer.apply(inputs, **parameters), describe(parameters)
    name = f"{layer.name} chain" if isinstance(layer, augmentations.Chain) else type(layer).__name__
    draw(axes, keras.ops.convert_to_numpy(to_images(changed))[0], name, drawn)


def show_segments(axes, layer: keras.layers.Layer, song: np.ndarray) -> None:
    """Draw where a layer cuts its segments."""
    places = layer.draw(keras.ops.convert_to_tensor(song))
    draw(axes, song[0], type(layer).__name__, describe(places, lambda frame: f"{frame * HOP / RATE:.1f} s"))
    for start, color in zip(places.values(), ("white", "cyan"), strict=False):
        left, width = (frames * HOP / RATE for frames in (float(start[0]), layer.length))
        axes.add_patch(Rectangle((left, 0), width, N_MELS, fill=False, color=color, linewidth=2.5))


def draw(axes, image: np.ndarray, title: str, subtitle: str) -> None:
    """Draw one image with its two lines of text."""
    seconds = image.shape[1] * HOP / RATE
    axes.imshow(
        image,
        cmap=colormaps["magma"].resampled(24),
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(0, seconds, 0, len(image)),
    )
    axes.set_title(title, loc="left", fontsize="medium", fontweight="bold", parse_math=False, pad=22)
    axes.annotate(
        textwrap.fill(subtitle, 45),
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 20),
        textcoords="offset points",
        verticalalignment="top",
        fontsize="x-small",
        parse_math=False,
        in_layout=False,
    )
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("mel band")
    if axes.get_subplotspec().is_last_row():
        axes.set_xlabel("time (s)")


def describe(
    parameters: dict, to_text=lambda value: f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
) -> str:
    """The parameters of the first example by name; only the name of those with too many numbers."""
    parts = []
    for name, values in parameters.items():
        values = np.atleast_1d(keras.ops.convert_to_numpy(values)[0]).tolist()
        text = " ".join(str(value) if isinstance(value, bool) else to_text(value) for value in values)
        parts.append(f"{name.replace('_', ' ')} {text if len(values) <= 6 else '...'}")
    return ", ".join(parts) or "no parameters"


if __name__ == "__main__":
    main()
