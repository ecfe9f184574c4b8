"""One run of a recipe, from data to a preset: what `music-zoo train` does."""

import json
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from music_zoo.audio_model import AudioModel
from music_zoo.calibration.fitting import MIN_FILES
from music_zoo.classifier import Classifier
from music_zoo.datasets import LogMelDataset
from music_zoo.ensemble import CALIBRATE_ON, Ensemble
from music_zoo.errors import DatasetError, PresetError, RecipeError, UnknownPresetError
from music_zoo.evaluation import classification_metrics, fit_probe, stratified_fraction
from music_zoo.evaluation.split_outputs import (
    SplitOutputs,
    check_features,
    run_recordings,
    split_outputs,
    targets_of,
)
from music_zoo.files import replacing
from music_zoo.hub.preset_files import read_preset, write_preset
from music_zoo.pretraining.callbacks import ClassifierScore, Lines, NeighbourScore
from music_zoo.pretraining.checkpoints import Checkpoint
from music_zoo.pretraining.distillation import DistillSettings, distill
from music_zoo.pretraining.run import compile_for, dtype_policy, new_classifier, pretrain
from music_zoo.training.data import Say, frequent_tags, open_data
from music_zoo.training.examples import Teach, labelled_batches, training_targets
from music_zoo.training.recipe import Fit, Recipe
from music_zoo.zoo import load

#: Of the losses of the outputs, where recordings have one label each; those of tags are means over many.
WEIGHTS = {"labels": 2.0, "vggish": 1.0, "tags": 10.0}

#: Weights to start from, and which parts of the model take them; None: what the recipe starts from.
Start = tuple[dict[str, np.ndarray] | None, list[str]]

#: Written into the folder of a part of a run when that is finished: what it depends on, what it scores.
RESULT = "result.json"


def train(
    recipe: Recipe,
    folder: Path,
    output: Path,
    say: Say = print,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    *,
    member: int | None = None,
    most: int | None = None,
) -> AudioModel:
    """Follow a recipe; take up a run that was interrupted; write a preset.

    Nothing looks at the test split. The same call takes up a run that was interrupted.

    Args:
        recipe: What to do.
        folder: Of the data set.
        output: Folder for `preset/`, and for what it is made of: `pretrained/`, `features/`, `fit-0/` and so
            on, each with its own `preset/` and, if it took epochs, `checkpoint.safetensors` and `log.csv`; of
            an ensemble all this within `member-0/` and so on.
        say: Given a line of progress after each epoch, and what was written.
        callbacks: More of them.
        member: Train only this member of an ensemble, on another machine, say; None: all, and the ensemble.
        most: Use no more than so many recordings of each label, for a rehearsal.

    Returns:
        The model, calibrated.

    Raises:
        RecipeError: A recipe that does not go with the data, or a folder with the results of another one.
        DatasetError: Data of another name, or too few of them.
        PretrainingError: Settings that cannot be, a loss that is not finite, a damaged checkpoint.
        OSError: A full disk. The last checkpoint is kept.
    """
    run = Run(recipe, folder, output, say, callbacks, most)
    if recipe.members == 1:
        return run.classifier(output, recipe.seed)
    numbers = range(recipe.members) if member is None else [member]
    members = [run.classifier(output / f"member-{each}", recipe.seed + each) for each in numbers]
    return members[0] if member is not None else run.ensemble(members)


class Run:
    """What all members of a run have in common: recipe, data, and what they start from."""

    def __init__(
        self, recipe: Recipe, folder: Path, output: Path, say: Say, callbacks: tuple, most: int | None
    ):
        self.recipe, self.folder, self.output = recipe, Path(folder), Path(output)
        self.say, self.callbacks, self.most = say, callbacks, most
        self.dataset = open_data(recipe, self.folder, self.output, say, most)
        self.tag_names = ()
        if recipe.target == "tags" or any(fit.tags for fit in recipe.fit):
            self.tag_names = frequent_tags(self.dataset, recipe.min_tag_tracks)
        self.labels = self.tag_names if recipe.target == "tags" else self.dataset.labels
        own_task = getattr(self.dataset, "task", "single_label")
        self.task = "multi_label" if recipe.target == "tags" else own_task
        default = ["accuracy", "nll"] if self.task == "single_label" else ["average_precision", "nll"]
        self.metrics = recipe.evaluation or default

    # ---- networks ------------------------------------------------------------------------------------------

    def new(self, labelled: bool = True) -> Classifier:
        """Return an untrained classifier, with the recipe's labels or as an encoder."""
        classifier = new_classifier(
            self.recipe.encoder,
            self.dataset,
            self.recipe.preset,
            self.recipe.encoder_options,
            **({"labels": self.labels, "task": self.task} if labelled else {}),
            sample_rate=self.recipe.sample_rate,
            window=self.recipe.window,
        )
        if self.recipe.dropout is None or self.recipe.dropout == classifier.dropout:
            return classifier
        return Classifier.from_config(classifier.get_config() | {"dropout": self.recipe.dropout})

    @cached_property
    def starts(self) -> Sequence[AudioModel]:
        """What to start from, pretrained first if need be: members take turns at these; none: random."""
        if self.recipe.pretrain:
            place = self.output / "pretrained"
            return [pretrain(self.recipe.pretrain, self.dataset, place, self.say, self.callbacks)]
        model = self.find(self.recipe.start) if self.recipe.start else None
        if isinstance(model, Ensemble):
            return model.members
        return [model] if model else []

    def start(self, seed: int) -> dict[str, np.ndarray] | None:
        """Return the weights that the classifier of a seed starts from; None: random ones."""
        if not self.starts:
            return None
        return self.starts[(seed - self.recipe.seed) % len(self.starts)].tensors()

    def find(self, name: str) -> AudioModel | None:
        """Return a trained model: of a run beside this one, or a preset; None only in a rehearsal."""
        beside = self.output.parent / name / "preset"
        try:
            model = load(beside if beside.is_dir() else name)
            if self.most and not beside.is_dir():
                raise PresetError("it is larger than what is rehearsed")
        except (UnknownPresetError, PresetError) as error:
            if not self.most:
                raise RecipeError(
                    f"{self.recipe.preset} needs {name}: train it beside {self.output}, as {beside.parent}, "
                    f"first. ({error})"
                ) from error
            self.say(f"rehearsing without {name}, which is not beside {self.output}: random weights instead")
            return None
        self.say(f"found {beside if beside.is_dir() else name}")
        return model

    # ---- one classifier ------------------------------------------------------------------------------------

    def classifier(self, output: Path, seed: int) -> Classifier:
        """Return a classifier, trained into a folder as far as it is not there yet."""
        fitted: list[tuple[Path, Classifier, dict[str, float]]] = []
        if self.recipe.distill:
            fitted.append((output / "distilled", *self.distilled(output / "distilled", seed)))
        backbone = None
        start: Start = backbone, ["backbone"]
        for number, fit in enumerate(self.recipe.fit):
            place, about = output / f"fit-{number}", self.described(seed, number)
            if (scores := self.finished(place, about)) is not None:
                model = load(place / "preset")
            else:
                if fit.frozen:
                    model = self.probed(fit, start, about)
                else:
                    model = self.tuned(fit, start, place, about)
                scores = self.finish(model, place, about, fit.labels > 0)
            if not fit.labels:
                backbone = model.tensors()
            else:
                what = "a linear head on a frozen network" if fit.frozen else "the whole network"
                self.say(f"{place.name}, {what}: validation {_scores(scores)}")
                fitted.append((place, model, scores))
            start = (model.tensors(), ["backbone", "head"]) if fit.frozen else (backbone, ["backbone"])
        first = self.metrics[0]
        lower_is_better = first in ("nll", "brier") or first.endswith(("ece", "mae"))
        place, model, scores = (min if lower_is_better else max)(fitted, key=lambda each: each[2][first])
        if len(fitted) > 1:
            self.say(
                f"{place.name} is kept: it has the best {first.replace('_', ' ')} on the validation split"
            )
        files = read_preset(place / "preset")
        write_preset(output / "preset", files.config, files.tensors, files.golden)
        self.say(f"wrote {output / 'preset'}: validation {_scores(scores)}")
        return model

    def described(self, seed: int, number: int | None = None) -> dict:
        """Return all that a part of a run depends on, but for its calibration.

        Args:
            seed: Of the classifier.
            number: Of the section of `fit`: it does not depend on later ones, and of earlier ones only on
                those that it goes on from.
        """
        later = {"members", "calibrate_on", "calibrator", "evaluation", "cost"}
        about = self.recipe.model_dump(mode="json", exclude=later) | {"seed": seed, "most": self.most}
        if number is not None:
            fits = about["fit"][: number + 1]
            about["fit"] = [
                fit
                for place, fit in enumerate(fits)
                if place == number or not fit["labels"] or (place == number - 1 and fit["frozen"])
            ]
        return about

    def rows(self, fit: Fit, model: Classifier, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which training recordings to use, those with labels first, and these labels."""
        every = np.arange(len(self.dataset.split("train").ids))
        if not fit.labels:
            return every, np.empty(0, int)
        targets = targets_of(model, self.dataset, "train")
        rows = every if fit.labels == 1 else stratified_fraction(targets, fit.labels, seed)
        others = np.setdiff1d(every, rows) if fit.unlabelled else every[:0]
        return np.concatenate([rows, others]), targets[rows]

    def probed(self, fit: Fit, start: Start, about: dict) -> Classifier:
        """Return a classifier whose head is a linear probe on a frozen backbone; arguments as for `tuned`."""
        seed = about["seed"]
        keras.utils.set_random_seed(seed)
        model = self.new()
        if backbone := start[0] or self.start(seed):
            model.set_tensors(backbone, parts=["backbone"])
        rows, targets = self.rows(fit, model, seed)
        held_out = targets_of(model, self.dataset, "validation")
        train = self.outputs(model, "train", rows, targets)
        validation = self.outputs(model, "validation", np.arange(len(held_out)), held_out)
        splits = [(part.means, part.targets) for part in (train, validation)]
        try:
            probe = fit_probe(
                "linear", *splits[0], self.task, splits[1], seed=seed, num_classes=len(self.labels)
            )
            kernel, bias = probe.dense()
        except ValueError as error:
            raise DatasetError(f"{self.dataset.name}: {error}") from error
        model.set_tensors({"head.kernel": kernel, "head.bias": bias}, parts=["head"])
        self.say(f"linear probe on {len(rows)} recordings, C = {probe.chosen['C']:g}")
        return model

    def outputs(self, model: Classifier, split: str, rows: np.ndarray, targets: np.ndarray) -> SplitOutputs:
        """Return the embeddings of rows of a split."""
        part = self.dataset.split(split)
        if isinstance(self.dataset, LogMelDataset):
            recordings = part.features[rows]
        else:
            recordings = [part.paths[row] for row in rows]
        return run_recordings(model, self.dataset.name, recordings, targets, "embedding")

    def tuned(self, fit: Fit, start: Start, place: Path, about: dict) -> Classifier:
        """Return a classifier that is trained as a whole, in float32.

        Args:
            fit: How.
            start: What to start from.
            place: Folder of the checkpoints.
            about: What decides the run.
        """
        seed, teach = about["seed"], self.taught(fit)
        weights, parts = start[0] or self.start(seed), start[1]
        with dtype_policy(self.recipe.precision):
            keras.utils.set_random_seed(seed)
            model = self.new(fit.labels > 0)
            if weights:
                model.set_tensors(weights, parts)
            rows, labels = self.rows(fit, model, seed)
            targets = training_targets(
                fit, self.dataset, self.folder, rows, labels, len(self.labels), self.tag_names
            )
            window = model.window, model.sample_rate
            batches = labelled_batches(self.dataset, rows, targets, fit, seed, window, teach)
            trainer = self.trainer(model, targets, fit, len(batches))
            checkpoint = Checkpoint(place, about)
            epoch = batches.epoch = checkpoint.restore(trainer, self.say)
            if epoch:
                self.say(f"taking up {place} after epoch {epoch} of {fit.epochs}")
            place.mkdir(parents=True, exist_ok=True)
            score = ClassifierScore if fit.labels else NeighbourScore
            every = max(1, min(5, fit.epochs // 10))
            callbacks = [score(model, self.dataset, every), checkpoint, Lines(self.say), *self.callbacks]
            if keras.backend.backend() == "torch":
                # There, dropout draws from the global generator, which no checkpoint holds. (TensorFlow would
                # compile anew what it trains.)
                def reseed(epoch: int, logs: dict) -> None:
                    keras.utils.set_random_seed(seed + epoch)

                callbacks.insert(0, keras.callbacks.LambdaCallback(on_epoch_begin=reseed))
            if epoch < fit.epochs:
                with closing(batches):
                    trainer.fit(
                        batches,
                        epochs=fit.epochs,
                        initial_epoch=epoch,
                        shuffle=False,  # the batches are drawn at random already
                        callbacks=callbacks,
                        verbose=0,
                    )
        if self.recipe.precision == "float32":
            return model
        tensors, model = model.tensors(), self.new()  # presets compute in float32
        model.set_tensors(tensors)
        return model

    def taught(self, fit: Fit) -> list[Teach]:
        """Return what each model that teaches in a section says of examples."""
        names = [name for name in fit.teachers if name != "vggish"]
        if names and not isinstance(self.dataset, LogMelDataset):
            raise RecipeError(
                f"{self.recipe.preset}: a model teaches stored features only, and {self.dataset.name} is "
                "audio: leave out `teacher`, or take an encoder of spectrograms, with a `front_end`."
            )
        return [self.teach(name) for name in names]

    def teach(self, name: str) -> Teach:
        """Return what a model says of examples."""
        teacher = self.find(name) or self.new()  # the latter only in a rehearsal
        check_features(teacher, self.dataset)
        order = self.order(teacher)
        network = teacher.view("features", "probabilities")
        return lambda examples: keras.ops.convert_to_numpy(network.predict_on_batch(examples))[:, order]

    def order(self, teacher: AudioModel) -> list[int]:
        """Return where among a teacher's labels those of the recipe are."""
        if teacher.task != self.task or set(teacher.labels) != set(self.labels):
            raise RecipeError(
                f"{teacher.name} has other labels than {self.recipe.preset} would have: train both by "
                "recipes with the same `target` and `min_tag_tracks`, on the same data."
            )
        return [teacher.labels.index(label) for label in self.labels]

    def trainer(
        self, model: Classifier, targets: dict[str, np.ndarray], fit: Fit, steps_per_epoch: int
    ) -> keras.Model:
        """Return the classifier's network with an output for each target, compiled."""
        embedding = model.view(
            "features" if isinstance(self.dataset, LogMelDataset) else "waveform", "embedding"
        )
        dropped = keras.layers.Dropout(model.dropout)(embedding.output)
        outputs = {
            name: keras.layers.Dense(values.shape[1], dtype="float32", name=name)(dropped)
            for name, values in targets.items()
            if name != "labels"
        }
        if "labels" in targets:
            outputs["labels"] = model.head(dropped)
        single = keras.losses.CategoricalCrossentropy(from_logits=True)
        several = keras.losses.BinaryCrossentropy(from_logits=True)
        is_single = self.task == "single_label"
        losses = {
            "labels": single if is_single else several,
            "vggish": keras.losses.MeanSquaredError(),
            "tags": several,
        }
        weights = WEIGHTS | ({} if is_single else {"labels": WEIGHTS["tags"]})
        trainer = keras.Model(embedding.input, outputs)
        compile_for(
            trainer,
            fit,
            steps_per_epoch,
            loss={name: losses[name] for name in outputs},
            loss_weights={name: weights[name] for name in outputs},
            jit_compile=embedding.jit_compile,
        )
        return trainer

    def distilled(self, place: Path, seed: int) -> tuple[Classifier, dict[str, float]]:
        """Return a student of a teacher, and what it scores."""
        about = self.described(seed)
        if (scores := self.finished(place, about)) is not None:
            return load(place / "preset"), scores
        settings = self.recipe.distill.model_dump() | {"seed": seed}
        teacher = self.find(settings.pop("teacher")) or self.new()  # the latter only in a rehearsal
        self.order(teacher)
        student = distill(
            DistillSettings(**settings), teacher, self.dataset, place / "run", None, self.say, self.callbacks
        )
        model = Classifier.from_config(student.get_config() | {"name": self.recipe.preset})
        model.set_tensors(student.tensors())
        return model, self.finish(model, place, about)

    # ---- what ends each part -------------------------------------------------------------------------------

    def calibrate(self, model: AudioModel) -> dict[str, float]:
        """Fit the calibrator on the validation split, if that holds enough; return what the model scores."""
        found = split_outputs(model, self.dataset, "validation", "logits")
        if len(found.windows) < MIN_FILES:
            self.say(f"not calibrated: {len(found.windows)} validation recordings, fewer than {MIN_FILES}")
        else:
            model.calibrate_logits(found.windows, found.targets, self.recipe.calibrator)
        windows = np.concatenate(found.windows)
        ends = np.cumsum([len(each) for each in found.windows])[:-1]
        files = np.split(model.probabilities_of(windows), ends)
        means = np.stack([file.mean(axis=0, dtype=np.float64) for file in files])
        every = classification_metrics(means, found.targets, self.task)
        if unknown := sorted(set(self.metrics) - set(every)):
            raise RecipeError(
                f"evaluation: there is no metric {', '.join(unknown)}; expected some of {', '.join(every)}."
            )
        return {name: every[name] for name in self.metrics}

    def finish(self, model: AudioModel, place: Path, about: dict, labelled: bool = True) -> dict[str, float]:
        """Calibrate, measure and save a model, and note that it is finished; return its metrics.

        Without labels it is saved alone, and has no metrics.
        """
        scores = self.calibrate(model) if labelled else {}
        model.save_preset(place / "preset")
        result = about | {"calibrator": self.recipe.calibrator, "validation": scores}
        with replacing(place / RESULT) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return scores

    def finished(self, place: Path, about: dict) -> dict[str, float] | None:
        """Return what a finished part of this run scored; None if it is not finished, or another."""
        if not (place / RESULT).exists() or not (place / "preset").is_dir():
            return None
        found = json.loads((place / RESULT).read_text(encoding="utf-8"))
        scores = found.pop("validation")
        now = json.loads(json.dumps(about | {"calibrator": self.recipe.calibrator}))
        is_scored = not scores or set(self.metrics) <= scores.keys()  # an encoder has no scores
        return scores if found == now and is_scored else None

    def ensemble(self, members: Sequence[Classifier]) -> Ensemble:
        """Return the members as one model, calibrated where the recipe says, and save it."""
        ensembles = {
            place: Ensemble(members, calibrate_on=place, name=self.recipe.preset) for place in CALIBRATE_ON
        }
        scores = {}
        for place, model in ensembles.items():
            scores[place] = self.calibrate(model)
            self.say(f"calibrated on {place}: validation {_scores(scores[place])}")
        chosen = self.recipe.calibrate_on
        ensembles[chosen].save_preset(self.output / "preset")
        self.say(f"wrote {self.output / 'preset'}: validation {_scores(scores[chosen])}")
        return ensembles[chosen]


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
