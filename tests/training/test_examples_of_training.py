"""What a network is shown while it is trained: changes, and targets that change with them."""

import numpy as np
import pytest

from music_zoo.errors import DatasetError

pytestmark = pytest.mark.keras

CLASSES = 4


def batches(epochs=8, **settings):
    """Images of 16 bands and 12 frames, each of one level, that of its class; targets tell the class."""
    from music_zoo.datasets.batches import ImageBatches
    from music_zoo.training.examples import TrainingBatches
    from music_zoo.training.recipe import Fit

    labels = np.arange(20) % CLASSES
    images = np.broadcast_to(labels[:, None, None], (20, 16, 12)).astype(np.uint8)
    plain = {"equalize": False, "mask": False, "mixup": 0.0}
    fit = Fit(epochs=epochs, batch_size=10, **plain | settings)
    source = ImageBatches(images, fit.batch_size, 3, np.arange(20))
    targets = {"labels": np.eye(CLASSES, dtype=np.float32)[labels]}
    return TrainingBatches(source, targets, fit)


def levels(targets):
    return targets["labels"] @ np.arange(CLASSES) / 255


def test_targets_belong_to_their_examples_also_mixed():
    for mixup in (0.0, 0.4):
        images, targets = batches(mixup=mixup).batch(0, 1)
        assert images.dtype == targets["labels"].dtype == np.float32
        np.testing.assert_allclose(images - levels(targets)[:, None, None], 0, atol=1e-6)
        is_mixed = targets["labels"].max(axis=1) < 1
        assert is_mixed.any() == bool(mixup)


def test_waveforms_are_mixed_with_their_targets():
    from music_zoo.training.examples import TrainingBatches
    from music_zoo.training.recipe import Fit

    class Waveforms:
        size, batch_size, seed = 20, 10, 0

        def batch(self, epoch, index):
            rows = np.arange(10)
            return np.repeat((rows % CLASSES / 255)[:, None], 6, axis=1), rows

    targets = {"labels": np.eye(CLASSES, dtype=np.float32)[np.arange(20) % CLASSES]}
    audio, targets = TrainingBatches(Waveforms(), targets, Fit(epochs=8, batch_size=10)).batch(0, 0)
    np.testing.assert_allclose(audio, np.repeat(levels(targets)[:, None], 6, axis=1), atol=1e-7)
    assert (targets["labels"].max(axis=1) < 1).any()


def test_the_last_eighth_of_the_epochs_is_neither_mixed_nor_masked():
    changed = batches(mixup=1.0, mask=True)
    for epoch, is_last in ((6, False), (7, True)):
        images, targets = changed.batch(epoch, 0)
        assert (targets["labels"].max() == 1 and set(np.unique(targets["labels"])) == {0, 1}) == is_last
        assert np.all(images == images[:, :1, :1]) or not is_last


def test_a_batch_depends_on_seed_epoch_and_number_alone():
    settings = {"mixup": 1.0, "mask": True, "equalize": True, "roll": True}
    first, other = batches(**settings), batches(**settings)
    other.batch(2, 0)
    for one, again in zip(first.batch(1, 1)[0], other.batch(1, 1)[0], strict=True):
        np.testing.assert_array_equal(one, again)
    assert not np.array_equal(first.batch(1, 1)[0], first.batch(2, 1)[0])


def test_a_teacher_is_shown_what_the_network_is_shown():
    taught = batches(mixup=1.0, mask=True, roll=True)
    taught.teach = [lambda examples: examples.mean(axis=(1, 2))[:, None]]
    images, targets = taught.batch(0, 0)
    np.testing.assert_array_equal(targets["labels"][:, 0], images.mean(axis=(1, 2)))


def test_of_several_teachers_the_mean_is_the_target():
    def say(what):
        return lambda examples: np.full((len(examples), CLASSES), what, np.float32)

    taught = batches()
    taught.teach = [say(0.2), say(0.6)]
    np.testing.assert_allclose(taught.batch(0, 0)[1]["labels"], 0.4, rtol=1e-6)
    own = batches().batch(0, 0)[1]["labels"]  # which VGGish has had a say in, if it teaches
    taught = batches(teacher=["vggish", "a", "b"])
    taught.teach = [say(0.2), say(0.6)]
    np.testing.assert_allclose(taught.batch(0, 0)[1]["labels"], (own + 0.8) / 3, rtol=1e-6)


def test_examples_that_are_drawn_once_are_shown_again_and_answered_once():
    drawn = batches(epochs=16, drawn_epochs=2, mixup=1.0, mask=True)
    asked = []

    def say(examples):
        asked.append(examples)
        return examples.mean(axis=(1, 2))[:, None]

    drawn.teach = [say]
    epochs = [drawn.batch(epoch, 1) for epoch in range(16)]
    for epoch, (images, targets) in enumerate(epochs):
        again_images, again_targets = epochs[epoch % 2 + (14 if epoch >= 14 else 0)]
        np.testing.assert_array_equal(images, again_images)
        np.testing.assert_array_equal(targets["labels"], again_targets["labels"])
    assert len(asked) == 4  # of two epochs, and of the two at the end, in which nothing is mixed
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    assert not np.array_equal(epochs[0][0], epochs[14][0])
    plain = batches(epochs=16, mixup=1.0, mask=True)
    np.testing.assert_array_equal(plain.batch(1, 1)[0], epochs[1][0])


def test_rolled_images_go_on_at_their_start():
    from music_zoo.datasets.batches import ImageBatches
    from music_zoo.training.examples import TrainingBatches
    from music_zoo.training.recipe import Fit

    ramp = np.broadcast_to(np.arange(12, dtype=np.uint8), (20, 16, 12))
    fit = Fit(batch_size=20, roll=True, equalize=False, mask=False, mixup=0)
    source = ImageBatches(ramp, 20, 0, np.arange(20))
    images, _ = TrainingBatches(source, {"labels": np.zeros((20, 2), np.float32)}, fit).batch(0, 0)
    steps = np.rint(np.diff(images, axis=2) * 255)
    assert set(np.unique(steps)) == {1, -11}
    assert len(np.unique(images[:, 0, 0])) > 1


def test_masks_are_of_the_mean_and_no_larger_than_said():
    from music_zoo.training.examples import mask

    rng = np.random.default_rng(0)
    before = rng.uniform(size=(50, 64, 64)).astype(np.float32)
    after = before.copy()
    mask(after, rng)
    for image, changed in zip(before, after, strict=True):
        is_blank = image != changed
        np.testing.assert_allclose(changed[is_blank], image.mean(), rtol=1e-5)
        assert is_blank.all(axis=1).sum() <= 32 and is_blank.all(axis=0).sum() <= 16
    assert (before != after).any(axis=(1, 2)).mean() > 0.9


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_teacher_says_nothing_of_recordings_that_it_learned_from(task):
    from music_zoo.training.examples import teacher

    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((120, 60)).astype(np.float32)  # so many that any labels can be learned
    labels = rng.integers(2, size=120) if task == "single_label" else rng.integers(2, size=(120, 3))
    said = teacher(embedding, labels, task)
    truth = np.eye(2)[labels] if task == "single_label" else labels
    assert said.shape == truth.shape and said.dtype == np.float32
    assert 0.35 < ((said > 0.5) == truth).mean() < 0.65  # noise: no better than chance


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_teacher_speaks_of_unlabelled_recordings(task, log_mel_folder):
    from music_zoo.datasets import read_fma_small
    from music_zoo.training.examples import teacher, training_targets, vggish
    from music_zoo.training.recipe import Fit

    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200) if task == "single_label" else rng.integers(2, size=(200, 3))
    of_each = truth[:, None] if task == "single_label" else truth
    embedding = (of_each @ rng.standard_normal((of_each.shape[1], 16))).astype(np.float32) * 4
    embedding += rng.standard_normal(embedding.shape).astype(np.float32)
    said = teacher(embedding, truth[:60], task)
    wanted = np.eye(2)[truth] if task == "single_label" else truth
    assert said.shape == wanted.shape
    assert ((said[60:] > 0.5) == wanted[60:]).mean() > 0.9
    np.testing.assert_allclose(said[:60], teacher(embedding[:60], truth[:60], task), rtol=1e-6)

    dataset, rows = read_fma_small(log_mel_folder), np.arange(40)[::-1]
    labels = truth[:12]
    fit = Fit(labels=0.3, unlabelled=True, teacher="vggish")
    targets = training_targets(fit, dataset, log_mel_folder, rows, labels, wanted.shape[1], ())
    stored = vggish(log_mel_folder, np.asarray(dataset.split("train").ids)[rows])
    stored = (stored - stored.mean(axis=0)) / stored.std(axis=0)
    said = teacher(stored, labels, task)
    np.testing.assert_allclose(targets["vggish"], stored, atol=1e-4)
    np.testing.assert_allclose(targets["labels"][12:], said[12:], atol=1e-4)
    np.testing.assert_allclose(targets["labels"][:12], (said[:12] + wanted[:12]) / 2, atol=1e-4)


def test_a_teacher_needs_its_embeddings(tmp_path):
    from music_zoo.training.examples import vggish

    with pytest.raises(DatasetError, match="vggish.npz is missing.*a recipe without `teacher`"):
        vggish(tmp_path, np.array(["1"]))
    np.savez(tmp_path / "vggish.npz", track_id=np.array([5, 2]), embedding=np.eye(2, dtype=np.float16))
    np.testing.assert_array_equal(vggish(tmp_path, np.array(["2", "5"])), [[0, 1], [1, 0]])
