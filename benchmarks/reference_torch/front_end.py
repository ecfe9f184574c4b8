"""The front ends of `music_zoo.layers` as one writes them with PyTorch, and with librosa.

Both are made of a front end's config and take windows of waveform, `(batch, samples)` tensors, to features.
"""

from collections.abc import Callable, Sequence

import librosa
import numpy as np
import torch
from torch import Tensor, nn


class FrontEnd(nn.Module):
    """`torch.stft`, then a product with the mel filters, of the whole batch."""

    def __init__(self, config: dict):
        super().__init__()
        self.layers = nn.Sequential(*(LAYERS[name](**settings) for name, settings in _layers(config)))

    def forward(self, windows: Tensor) -> Tensor:
        return self.layers(windows)


def librosa_front_end(config: dict) -> Callable[[Tensor], Tensor]:
    """Return `librosa.feature.melspectrogram` and `librosa.power_to_db` of one window after another.

    What comes after decibels is computed in PyTorch.
    """
    (_, stft), (_, mel), *others = _layers(config)
    settings = {name: value for name, value in stft.items() if name != "method"}
    settings |= {name: value for name, value in mel.items() if name not in ("sample_rate", "scale")}
    settings |= {"sr": mel["sample_rate"], "htk": mel.get("scale") == "htk"}
    decibels = None
    if others and others[0][0] == "Decibels":
        given = {"ref": 1.0, "amin": None, "top_db": 80.0} | others.pop(0)[1]
        ref = np.max if given["ref"] == "max" else given["ref"]
        decibels = {"ref": ref, "amin": given["amin"] or 1e-10, "top_db": given["top_db"]}
    rest = nn.Sequential(*(LAYERS[name](**given) for name, given in others))

    def features(windows: Tensor) -> Tensor:
        images = []
        for window in windows.numpy():
            image = librosa.feature.melspectrogram(y=window, **settings)
            images.append(image if decibels is None else librosa.power_to_db(image, **decibels))
        return rest(torch.from_numpy(np.stack(images)))

    return features


def used_frames(config: dict, samples: int) -> int:
    """Return how many frames of a window the features depend on, all of their normalisation left out."""
    settings = dict(_layers(config))
    stft, selection = settings["STFT"], settings.get("FrameSelection", {})
    return min(1 + samples // stft["hop_length"], selection.get("n_frames", samples))


def _layers(config: dict) -> Sequence[tuple[str, dict]]:
    return [(entry["layer"], entry.get("config", {})) for entry in config["layers"]]


# ---- layers, with the arguments of ours --------------------------------------------------------------------


class STFT(nn.Module):
    def __init__(
        self,
        n_fft=2048,
        hop_length=512,
        win_length=None,
        window="hann",
        center=True,
        pad_mode="constant",
        power=2.0,
        method="fft",
    ):
        super().__init__()
        win_length = win_length or n_fft
        weights = {"hann": torch.hann_window, "hamming": torch.hamming_window}[window](win_length)
        self.register_buffer("window", weights)
        self.power = power
        self.settings = {"n_fft": n_fft, "hop_length": hop_length, "win_length": win_length}
        self.settings |= {"center": center, "pad_mode": pad_mode, "return_complex": True}

    def forward(self, x):
        magnitude = torch.stft(x, window=self.window, **self.settings).abs()
        return magnitude.square() if self.power == 2 else magnitude


class MelFilterBank(nn.Module):
    def __init__(self, sample_rate, n_fft, n_mels=128, fmin=0.0, fmax=None, scale="slaney", norm="slaney"):
        super().__init__()
        filters = librosa.filters.mel(
            sr=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
            htk=scale == "htk",
            norm=norm,
        )
        self.register_buffer("filters", torch.from_numpy(filters))

    def forward(self, x):
        return self.filters @ x


class Decibels(nn.Module):
    def __init__(self, of="power", ref=1.0, amin=None, top_db=80.0):
        super().__init__()
        self.factor, smallest = (10.0, 1e-10) if of == "power" else (20.0, 1e-5)
        self.amin, self.ref, self.top_db = amin or smallest, ref, top_db

    def forward(self, x):
        x = self.factor * torch.log10(x.clamp(min=self.amin))
        loudest = x.amax((1, 2), keepdim=True)
        if self.top_db is not None:
            x = torch.maximum(x, loudest - self.top_db)
        if self.ref == "max":
            return x - loudest
        return x if self.ref == 1 else x - self.factor * float(np.log10(max(self.amin, self.ref)))


class LogCompression(nn.Module):
    def __init__(self, gain=10_000.0):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return torch.log10(1 + self.gain * x)


class MinMaxNormalization(nn.Module):
    def forward(self, x):
        x = x - x.amin((1, 2), keepdim=True)
        return x / x.amax((1, 2), keepdim=True).clamp(min=1e-12)


class FrameSelection(nn.Module):
    def __init__(self, n_frames, trim=0):
        super().__init__()
        self.n_frames, self.trim = n_frames, trim

    def forward(self, x):
        total = x.shape[-1] - self.trim
        return x[..., [int((2 * i + 1) * total // (2 * self.n_frames)) for i in range(self.n_frames)]]


LAYERS = {
    layer.__name__: layer
    for layer in (STFT, MelFilterBank, Decibels, LogCompression, MinMaxNormalization, FrameSelection)
}
