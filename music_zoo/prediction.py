"""What a classification returns: labels, probabilities and times, as a person or a program reads them."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Prediction:
    """Probabilities of one piece of audio, over all of it and window by window.

    Attributes:
        source: The file, or `"array"`.
        model: Name of the classifier.
        task: `"single_label"` (probabilities sum to one) or `"multi_label"`.
        labels: Label names, in the order of the probabilities.
        probabilities: Mean over the windows, `(num_classes,)`.
        taggram: Probabilities of each window, `(windows, num_classes)`.
        times: Start and end of each window in seconds, `(windows, 2)`.
        duration: Length of the audio in seconds.
        notes: What a reader should know before trusting the numbers (silence, a low sample rate).
        min_confidence: The classifier abstains if it is less sure than this; None: it never does.
    """

    source: str
    model: str
    task: str
    labels: tuple[str, ...]
    probabilities: np.ndarray
    taggram: np.ndarray
    times: np.ndarray
    duration: float
    notes: tuple[str, ...] = field(default=())
    min_confidence: float | None = None

    @property
    def label(self) -> str:
        """The most probable label, also if the classifier abstains."""
        return self.labels[int(np.argmax(self.probabilities))]

    @property
    def confidence(self) -> float:
        """Probability of the most probable label."""
        return float(np.max(self.probabilities))

    @property
    def abstains(self) -> bool:
        """Whether the classifier gives no answer: no label is as probable as `min_confidence`."""
        return self.min_confidence is not None and self.confidence < self.min_confidence

    @property
    def decision(self) -> str | None:
        """The most probable label, None if the classifier abstains."""
        return None if self.abstains else self.label

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """Return the `n` most probable labels with their probabilities, most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:n]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]

    def to_dict(self, taggram: bool = True) -> dict:
        """Return plain Python values, ready for JSON; of abstentions only if there is a `min_confidence`.

        Args:
            taggram: Whether to include the probabilities of each window.
        """
        result = {
            "source": self.source,
            "model": self.model,
            "task": self.task,
            "duration": round(self.duration, 3),
            "label": self.label,
            "probabilities": dict(zip(self.labels, self.probabilities.tolist(), strict=True)),
            "notes": list(self.notes),
        }
        if self.min_confidence is not None:
            result |= {"min_confidence": self.min_confidence, "abstains": self.abstains}
        if taggram:
            result["windows"] = [
                {
                    "start": round(float(start), 3),
                    "end": round(float(end), 3),
                    "probabilities": dict(zip(self.labels, row.tolist(), strict=True)),
                }
                for (start, end), row in zip(self.times, self.taggram, strict=True)
            ]
        return result

    def to_text(self, n: int = 5, with_model: bool = False) -> str:
        """Return the source, whether it abstains, its `n` most probable labels and the notes, a line each.

        Args:
            n: How many labels.
            with_model: Whether to say whose prediction it is.
        """
        model = f"  {self.model}" if with_model else ""
        lines = [f"{self.source}  ({self.duration:.1f} s){model}"]
        if self.abstains:
            lines.append(f"  abstains: no label reaches {self.min_confidence:.1%}")
        lines += [f"  {probability:6.1%}  {label}" for label, probability in self.top(n)]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def plot(self, path: str | PathLike, n: int = 10) -> Path:
        """Draw the taggram: a row per label, time to the right, and the mean over time beside it.

        Hatched are times at which no label of any row is as probable as `min_confidence`.

        Args:
            path: Where to write the picture; its suffix (`.png`, `.svg`, `.pdf`) says in which format.
            n: Draw the `n` most probable labels, most probable on top.

        Returns:
            The path that was written.
        """
        from music_zoo.plots import plot_taggram

        return plot_taggram(self, Path(path), n)

    def __str__(self) -> str:
        return self.to_text()
