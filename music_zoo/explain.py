"""Where in time a classifier listens, and which moments speak for which tag, read from its attention.

Won, Chun, Serra: "Visualizing and understanding self-attention based music tagging" (2019, arXiv:1911.04385).
It says where, not why: what the layers before the attention make of the audio stays unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path

import keras
import numpy as np
from keras import ops

from music_zoo.audio import from_array, probe, resample_blocks, stream
from music_zoo.audio_model import Audio
from music_zoo.classifier import Classifier
from music_zoo.errors import AudioError
from music_zoo.task_model import TASKS


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the last attention layer of a classifier makes of one window.

    Attributes:
        source: The file, or `"array"`.
        model: Name of the classifier.
        labels: Label names, in the order of the probabilities.
        probabilities: Of the window, `(num_classes,)`.
        times: Start and end of each step of time in seconds, `(steps, 2)`: equal parts of the window, which
            tells the time of what a step sees to about one step.
        attention: The heat map, `(steps,)`: how much of its attention the class token gives to each step,
            mean over the heads (the paper's sum over their number). What is missing to one, it gives itself.
        contributions: `(steps, num_classes)`: the probabilities if all heads attended to that step alone.
        features: What the network saw, `(n_mels, frames)`.
    """

    source: str
    model: str
    labels: tuple[str, ...]
    probabilities: np.ndarray
    times: np.ndarray
    attention: np.ndarray
    contributions: np.ndarray
    features: np.ndarray

    def columns(self, tags: Sequence[str] | None = None) -> dict[str, int]:
        """Return the index of each tag; the three most probable if None.

        Raises:
            ValueError: A tag that the classifier does not know; the message gives the nearest names.
        """
        if tags is None:
            return {self.labels[i]: int(i) for i in np.argsort(-self.probabilities, kind="stable")[:3]}
        check_tags(self.labels, tags)
        return {tag: self.labels.index(tag) for tag in tags}

    def to_dict(self, tags: Sequence[str] | None = None) -> dict:
        """Return plain Python values, ready for JSON, with the tags of `columns`."""
        columns = self.columns(tags)

        def chosen(row: np.ndarray) -> dict[str, float]:
            return {tag: float(row[i]) for tag, i in columns.items()}

        return {
            "source": self.source,
            "model": self.model,
            "probabilities": chosen(self.probabilities),
            "steps": [
                {
                    "start": round(float(start), 3),
                    "end": round(float(end), 3),
                    "attention": float(share),
                    "contributions": chosen(row),
                }
                for (start, end), share, row in zip(
                    self.times, self.attention, self.contributions, strict=True
                )
            ],
        }

    def to_text(self, tags: Sequence[str] | None = None) -> str:
        """Return the source and, a line for each tag of `columns`, where it is heard most."""
        lines = [f"{self.source}  ({self.times[0, 0]:.1f} to {self.times[-1, 1]:.1f} s)"]
        for tag, i in self.columns(tags).items():
            peak = int(np.argmax(self.contributions[:, i]))
            at = f"{self.contributions[peak, i]:.1%} from {self.times[peak, 0]:.2f} s"
            lines.append(f"  {self.probabilities[i]:6.1%}  {tag}  (most: {at})")
        return "\n".join(lines)

    def plot(self, path: str | PathLike, tags: Sequence[str] | None = None) -> Path:
        """Draw features, heat map and the contributions of the tags of `columns`, one above the other.

        Args:
            path: Where to write the picture; its suffix (`.png`, `.svg`, `.pdf`) says in which format.
            tags: To draw the curves of.

        Returns:
            The path that was written.
        """
        from music_zoo.plots import plot_explanation

        return plot_explanation(self, Path(path), self.columns(tags))

    def __str__(self) -> str:
        return self.to_text()


def explain(
    classifier: Classifier, audio: Audio, sample_rate: int | None = None, start: float = 0.0
) -> Explanation:
    """Return where in one window the last attention layer looks, and what each moment contributes.

    Attention is forced to one step at a time, in all heads; the layer then gives the value of that step,
    whatever the query. So one batch over the steps, from the layer's input on, does it, exactly, and without
    another pass through what comes before.

    Args:
        classifier: With a backbone in which a class token attends to steps of time.
        audio: A file, or an array `(samples,)` or `(channels, samples)`.
        sample_rate: Of an array, in Hz; required for arrays, not for files, which say their own.
        start: Of the window, in seconds.

    Raises:
        AudioError: The audio cannot be used, or holds no whole window from `start` on.
        ValueError: The backbone has no such attention, or `start` is negative.
    """
    check_explainable(classifier)
    waveform = _window(classifier, audio, sample_rate, start)
    features = classifier.view("waveform", "features").predict_on_batch(waveform[np.newaxis])
    probabilities, attention, contributions = _listen(classifier, features)
    edges = start + np.linspace(0, classifier.window, len(attention) + 1)
    return Explanation(
        source=fspath(audio) if isinstance(audio, str | PathLike) else "array",
        model=classifier.name,
        labels=classifier.labels,
        probabilities=probabilities,
        times=np.column_stack([edges[:-1], edges[1:]]),
        attention=attention,
        contributions=contributions,
        features=np.asarray(features)[0],
    )


def check_explainable(classifier: Classifier) -> None:
    """Raise ValueError if no class token of the classifier's backbone attends to steps of time."""
    backbone = getattr(classifier, "backbone", None)  # an ensemble has none; its members do
    if getattr(backbone, "time_attention", None) is None:
        raise ValueError(
            "Only a classifier whose class token attends to steps of time can be explained (CNNSA, "
            f"MusicTaggingTransformer, SpecTNT with a clip token); the backbone of {classifier.name} is "
            f"{classifier.architecture}."
        )


def check_tags(labels: Sequence[str], tags: Sequence[str]) -> None:
    """Raise ValueError for the first tag that is no label; the message gives the nearest names."""
    for tag in tags:
        if tag not in labels:
            near = get_close_matches(tag, labels)
            hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(labels)}."
            raise ValueError(f"{tag!r} is no tag of this classifier; {hint}")


def _listen(classifier: Classifier, features) -> list[np.ndarray]:
    """Return probabilities, attention and contributions, as in `Explanation`, of features `(1, ...)`."""
    backbone = classifier.backbone
    attend, add = map(backbone.get_layer, backbone.time_attention)
    activation = keras.activations.get(TASKS[classifier.task])

    def probabilities(embedding):
        return activation(classifier.calibrator(classifier.head(classifier.pooling(embedding))))

    # These models end and start inside the backbone; they share its layers.
    until = keras.Model(backbone.input, [attend.input, add.input[0], backbone.output])
    onwards = keras.Model(add.output, backbone.output)

    tokens, states, embedding = until(features)
    attention = ops.mean(attend(tokens, attention_only=True)[0, :, 0, 1:], axis=0)
    # The class token alone, in one example for each step that it might attend to: (steps, 1, width).
    forced = ops.swapaxes(states[:, :1] + attend.values(tokens)[:, 1:], 0, 1)
    outputs = probabilities(embedding)[0], attention, probabilities(onwards(forced))
    return [ops.convert_to_numpy(ops.cast(output, "float32")) for output in outputs]


def _window(classifier: Classifier, audio: Audio, sample_rate: int | None, start: float) -> np.ndarray:
    """Return the samples of the window, `(window_samples,)` at the classifier's rate."""
    if not 0 <= start < float("inf"):
        raise ValueError(f"`start` is a time in seconds, 0 or more, got {start}.")
    if not isinstance(audio, str | PathLike):
        blocks = [from_array(audio, sample_rate)]
    elif sample_rate is None:
        blocks, sample_rate = stream(audio), probe(audio).sample_rate
    else:
        raise ValueError(f"A file says its own sample rate; got {audio} with sample_rate={sample_rate}.")

    first = round(start * classifier.sample_rate)
    window = np.empty(classifier.window_samples, np.float32)
    known = 0  # samples, of the audio
    for block in resample_blocks(blocks, sample_rate, classifier.sample_rate):
        part = block[max(0, first - known) : first + len(window) - known]
        if len(part):
            offset = max(0, known - first)
            window[offset : offset + len(part)] = part
        known += len(block)
        if known >= first + len(window):
            return window
    name = audio if isinstance(audio, str | PathLike) else "the array"
    latest = (known - len(window)) / classifier.sample_rate
    hint = f"start at {latest:.2f} s at the latest" if latest >= 0 else "take longer audio"
    raise AudioError(
        f"{name}: expected a whole window of {classifier.window:g} s from {start:g} s on, got "
        f"{known / classifier.sample_rate:.2f} s of audio in all; {hint}."
    )
