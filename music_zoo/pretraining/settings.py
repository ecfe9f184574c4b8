"""All that decides a run of pretraining: what a configuration file of `music-zoo pretrain` may hold."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from music_zoo.datasets import AudioDataset, LogMelDataset
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.layers.augmentation import CHAINS
from music_zoo.models import named_configs
from music_zoo.pretraining import METHODS

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


class Settings(BaseModel):
    """All that decides a run, but for the data; what a configuration file may hold.

    Attributes:
        method: Name of one of `music_zoo.pretraining.METHODS`.
        encoder: Name of a configuration, see `music_zoo.models.named_configs`.
        method_options: Arguments of the method's class.
        encoder_options: Settings of the backbone that differ from its configuration's.
        sample_rate: Of an encoder that learns from audio, in Hz; None: its configuration's.
        augmentation: Name of one of `music_zoo.layers.augmentation.CHAINS`; None: `"clmr"` for an encoder of
            waveforms, else `"s3t"`.
        segment: Length of a view in seconds; None: 10 of stored features, of audio a window of the encoder.
        distance: Seconds from the end of one view to the start of the other, at the least; negative: overlap.
            None: 0 for stored features; for audio, as CLMR does, as much overlap as there can be.
        clip: Seconds of an audio file, at a random place, from which both views are taken; None: as few as
            hold them.
        epochs, batch_size, seed: Of the training.
        learning_rate: The largest; it rises over `warmup_epochs` and falls to 0 on a cosine.
        weight_decay, clip_norm: Of AdamW.
        precision: Keras' dtype policy.
        knn_every: Epochs from one kNN accuracy to the next, where the data have labels; 0: none.
    """

    model_config = ConfigDict(extra="forbid")

    method: Literal[tuple(METHODS)]
    encoder: str = "swin-compact"
    method_options: dict[str, Any] = {}
    encoder_options: dict[str, Any] = {}
    sample_rate: int | None = Field(None, gt=0)
    augmentation: Literal[tuple(CHAINS)] | None = None
    segment: float | None = Field(None, gt=0)
    distance: float | None = None
    clip: float | None = Field(None, gt=0)
    epochs: int = Field(20, gt=0)
    batch_size: int = Field(64, gt=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_epochs: float = Field(1.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(3.0, gt=0)
    precision: Precision = "float32"
    knn_every: int = Field(5, ge=0)
    seed: int = 0


def settings_of(values: Mapping[str, Any], kind: type[BaseModel] = Settings) -> Any:
    """Return settings, checked.

    Raises:
        PretrainingError: Settings that there are not, or of values that cannot be; the message names each.
    """
    known = kind.model_fields
    if unknown := [str(name) for name in values if name not in known]:
        raise PretrainingError(
            f"There is no setting {', '.join(map(repr, unknown))}; expected some of {', '.join(known)}."
        )
    try:
        return kind(**values)
    except ValidationError as error:
        raise PretrainingError(f"Settings: {wrong_settings(error)}.") from error


def wrong_settings(error: ValidationError) -> str:
    """Say which settings cannot be, and why."""
    wrong = [": ".join([".".join(map(str, one["loc"])), one["msg"]]) for one in error.errors()]
    return "; ".join(each.removeprefix(": ") for each in wrong)


def resolved(settings: Settings, dataset: LogMelDataset | AudioDataset) -> Settings:
    """Return settings in which what was left open is what suits encoder and data.

    Raises:
        PretrainingError: No such encoder, or one that does not go with the data or the augmentation.
        DatasetError: Recordings shorter than two segments.
    """
    config = named_config(settings.encoder)
    steps, rate = config["front_end"]["layers"], config["front_end"]["sample_rate"]
    stored = isinstance(dataset, LogMelDataset)
    if stored and (settings.sample_rate or settings.clip):
        raise PretrainingError(
            "`sample_rate` and `clip` are settings for audio; the data are stored features."
        )
    augmentation = settings.augmentation or ("s3t" if steps else "clmr")
    wrong = "clmr" if stored else None if steps else "s3t"
    if augmentation == wrong:
        raise PretrainingError(
            f"The augmentation {wrong} changes {'waveforms' if stored else 'spectrograms'}, of which "
            f"{dataset.name if stored else settings.encoder} knows nothing; expected one of "
            f"{', '.join(sorted(CHAINS.keys() - {wrong}))}."
        )
    if stored:
        segment = settings.segment or 10.0
        distance = settings.distance or 0.0
        clip, sample_rate = None, None
    else:
        sample_rate = settings.sample_rate or rate
        # A network of waveforms keeps its number of samples.
        segment = settings.segment or config["window"] * (1 if steps else rate / sample_rate)
        distance = -segment if settings.distance is None else settings.distance
        clip = settings.clip or 2 * segment + distance
    length = dataset.seconds if stored else clip
    if not 0 <= segment + distance <= length - segment + 1e-9:
        raise DatasetError(
            f"Two segments of {segment:g} s, {distance:g} s apart, do not fit into clips of {length:g} s: "
            "shorten `segment`, or change `distance` (below 0, down to minus a segment, they overlap)."
        )
    own = {"augmentation": augmentation, "segment": segment, "distance": distance, "clip": clip}
    return settings.model_copy(update=own | {"sample_rate": sample_rate})


def named_config(name: str) -> dict:
    """Return a named configuration.

    Raises:
        PretrainingError: There is none.
    """
    configs = named_configs()
    if name not in configs:
        raise PretrainingError(f"There is no configuration {name!r}; expected one of {', '.join(configs)}.")
    return configs[name]
