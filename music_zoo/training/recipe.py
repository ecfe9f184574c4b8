"""What a recipe may hold: all that decides how a preset is made, but for where the data lie."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from music_zoo.calibration.calibrators import CALIBRATORS
from music_zoo.ensemble import CALIBRATE_ON
from music_zoo.errors import RecipeError
from music_zoo.models import named_configs
from music_zoo.pretraining.distillation import DistillSettings
from music_zoo.pretraining.settings import Precision, Settings, wrong_settings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Fit(_Section):
    """Supervised training: of the head alone, or of the whole network.

    Attributes:
        frozen: Fit the head alone, as a linear probe on frozen embeddings of whole recordings; of the other
            settings only `labels` has then a meaning.
        labels: Share of the training recordings to learn from, drawn with their classes' proportions. 0: all
            of them, but none of their labels: the network learns only to predict the embeddings of the
            teacher `"vggish"`, and later sections start from it.
        unlabelled: Learn from all other training recordings, too: of them, from what the teachers say alone,
            of which `"vggish"` must be one.
        epochs, batch_size: Of the training.
        learning_rate: The largest; it rises over `warmup_epochs` and falls to 0 on a cosine.
        weight_decay, clip_norm: Of AdamW.
        crop: Length of a training example of stored features, in frames; None: all. Audio is cut to windows.
        segment: The same in seconds.
        roll: Begin each example anywhere and go on at its start: for networks that know positions in time,
            which crops would leave unknown.
        equalize: Change tone and loudness of each image at random.
        mask: Blank stretches of bands and frames (arXiv:1904.08779).
        mixup: Alpha of mixup (arXiv:1710.09412); 0: none.
        teacher: Who teaches; of several, in a list, the mean of what they say is the target. `"vggish"` makes
            the network a student (Hinton et al. 2015, arXiv:1503.02531) of the recordings' VGGish embeddings
            (Hershey et al. 2017, arXiv:1609.09430; `vggish.npz` in the folder of the data): it predicts the
            embedding, and half of the target is what classifiers on embeddings say of recordings that they
            were not trained on. Any other name is a preset, a preset folder or another run, as
            `Recipe.start`, with the same labels, and stored features of its front end: it says what it thinks
            of each example just as the network sees it, changed and mixed (Beyer et al. 2022,
            arXiv:2106.05237).
        drawn_epochs: Draw examples for so many epochs only, and show these again and again, so that a model
            that teaches has to look at each but once; None: draw anew in each epoch.
        tags: Learn also to predict the tags, where the labels are others.

    In the last eighth of the epochs nothing is mixed or masked, and the batch statistics become those of real
    music.
    """

    frozen: bool = False
    labels: float = Field(1.0, ge=0, le=1)
    unlabelled: bool = False
    epochs: int = Field(80, gt=0)
    batch_size: int = Field(64, gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    warmup_epochs: float = Field(2.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(2.0, gt=0)
    crop: int | None = Field(None, gt=0)
    segment: float | None = Field(None, gt=0)
    roll: bool = False
    equalize: bool = True
    mask: bool = True
    mixup: float = Field(0.4, ge=0)
    teacher: str | list[str] | None = None
    drawn_epochs: int | None = Field(None, gt=0)
    tags: bool = False

    @property
    def teachers(self) -> list[str]:
        """Who teaches, by name."""
        return [self.teacher] if isinstance(self.teacher, str) else self.teacher or []

    @model_validator(mode="after")
    def _check(self) -> "Fit":
        unused = sorted(self.model_fields_set - {"frozen", "labels"})
        if self.frozen and unused:
            raise ValueError(f"a frozen network is fitted without {', '.join(unused)}")
        if self.crop and self.segment:
            raise ValueError("give crop or segment, not both")
        if not self.labels and (self.frozen or self.tags or self.teachers != ["vggish"]):
            raise ValueError(
                "without labels a whole network learns from `teacher: vggish` alone, and no tags"
            )
        if self.unlabelled and (not 0 < self.labels < 1 or self.tags or "vggish" not in self.teachers):
            raise ValueError(
                "unlabelled recordings are there where `labels` is between 0 and 1; they need "
                "`teacher: vggish`, and have no tags"
            )
        return self


class Distill(DistillSettings):
    """Training of the encoder as a student, see `music_zoo.pretraining.distillation`.

    Attributes:
        teacher: A preset, a preset folder or another run, as `Recipe.start`.
    """

    teacher: str


#: What pretraining and distillation take from the recipe, and how they call it.
_SHARED = {
    "pretrain": {
        "encoder": "encoder",
        "encoder_options": "encoder_options",
        "sample_rate": "sample_rate",
        "window": "segment",
        "precision": "precision",
        "seed": "seed",
    },
    "distill": {
        "encoder": "student",
        "encoder_options": "student_options",
        "precision": "precision",
        "seed": "seed",
    },
}


class Recipe(_Section):
    """How a preset is made.

    Attributes:
        preset: Its name.
        data: Name of the data set, see `music_zoo.datasets`, or of a family of them: `nsynth`.
        target: `"labels"`: what the data set's labels are, one for each recording or several; `"tags"`: any
            of the further names that it has (finer genres of FMA, qualities of NSynth).
        min_tag_tracks: Tags of fewer training recordings are no target.
        encoder: Name of a configuration, see `music_zoo.models.named_configs`.
        encoder_options: Settings of the backbone that differ from its configuration's.
        sample_rate, window: Of an encoder that learns from audio, in Hz and seconds; None: its
            configuration's.
        front_end: What audio is seen through by an encoder of spectrograms, as a config of
            `music_zoo.layers.FrontEnd`; its features are computed once, and kept. None: that of the stored
            features of the same data set, if there are any, else the configuration's.
        seconds: How much of the beginning of each recording such features hold.
        dropout: Rate before the head; None: the configuration's.
        start: A preset whose backbone to start from: another run beside the output folder, by its name
            (`NAME/pretrained`: as pretraining left it), or a preset or preset folder. Of an ensemble, members
            start from members.
        pretrain: Pretraining, instead of `start`; what is said above is not repeated in it.
        distill: Training by a teacher, instead of `fit`.
        fit: Sections of training, one after the other; of those with labels the best by the first metric of
            `evaluation` is kept. One behind a frozen one starts with its head (arXiv:2202.10054).
        members: Number of classifiers, each with a seed of its own; more than one make an ensemble.
        calibrate_on: Where an ensemble is calibrated.
        calibrator: Name of one of `music_zoo.calibration.CALIBRATORS`, fitted on the validation split.
        evaluation: Metrics to report of the validation split, see
            `music_zoo.evaluation.classification_metrics`; None: accuracy (several labels: average precision),
            and `nll`.
        precision: Keras' dtype policy while training.
        seed: Of everything that is drawn.
        cost: Time and hardware that the published weights took.
    """

    preset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    data: str
    target: Literal["labels", "tags"] = "labels"
    min_tag_tracks: int = Field(50, gt=0)
    encoder: str
    encoder_options: dict[str, Any] = {}
    sample_rate: int | None = Field(None, gt=0)
    window: float | None = Field(None, gt=0)
    front_end: dict[str, Any] | None = None
    seconds: float = Field(30.0, gt=0)
    dropout: float | None = Field(None, ge=0, lt=1)
    start: str | None = None
    pretrain: Settings | None = None
    distill: Distill | None = None
    fit: list[Fit] = []
    members: int = Field(1, gt=0)
    calibrate_on: Literal[CALIBRATE_ON] = "mean"
    calibrator: Literal[tuple(CALIBRATORS)] = "temperature"
    evaluation: list[str] | None = Field(None, min_length=1)
    precision: Precision = "float32"
    seed: int = 0
    cost: str = ""

    @model_validator(mode="before")
    @classmethod
    def _share(cls, values: Any) -> Any:
        """Give the sections what the recipe says for all of them; one section of `fit` is a list of one."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for name, shared in _SHARED.items():
            section = values.get(name)
            if isinstance(section, Mapping):
                if repeated := sorted(section.keys() & {*shared.values()} - {"segment"}):
                    raise ValueError(f"{name}: {', '.join(repeated)} belongs into the recipe itself")
                given = {own: values[key] for key, own in shared.items() if values.get(key) is not None}
                values[name] = given | dict(section)
        if isinstance(values.get("fit"), Mapping):
            values["fit"] = [values["fit"]]
        return values

    @field_validator("encoder")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in named_configs():
            raise ValueError(
                f"there is no configuration {name!r}; expected one of {', '.join(named_configs())}"
            )
        return name

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if bool(self.fit) == (self.distill is not None):
            raise ValueError("give sections of `fit`, or `distill`: one of the two")
        if self.fit and not self.fit[-1].labels:
            raise ValueError("the last section of `fit` needs labels, for the head")
        if sum(each is not None for each in (self.start, self.pretrain, self.distill)) > 1:
            raise ValueError("give one of `start`, `pretrain` and `distill`")
        return self


def read_recipe(path: str | PathLike, **overrides: Any) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file.
        **overrides: Settings that take the place of the file's, if they are not None.

    Raises:
        RecipeError: No YAML, or settings that there are not or of values that cannot be; the message names
            the file and each setting.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as a YAML file: {error}") from error
    if not isinstance(values, Mapping):
        raise RecipeError(f"{path}: expected lines of `setting: value`, got {values!r}.")
    try:
        return Recipe(**values | {name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise RecipeError(f"{path}: {wrong_settings(error)}.") from error
