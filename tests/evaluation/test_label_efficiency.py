import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from music_zoo.evaluation import (
    LabelEfficiency,
    label_efficiency,
    plot_label_efficiency,
    probe,
    stratified_fraction,
)
from music_zoo.evaluation.label_efficiency import FractionResult

fractions = st.floats(0.01, 0.99)


def splits(files=200, distance=2.0, task="single_label"):
    made = {}
    for seed, name in enumerate(("train", "validation", "test")):
        rng = np.random.default_rng(seed)
        targets = rng.permutation(np.arange(files) % 4)
        if task == "multi_label":
            targets = np.stack([targets == 0, targets < 2], axis=1).astype(int)
        centres = np.eye(4)[targets] if task == "single_label" else targets @ np.eye(2, 4)
        made[name] = distance * centres + rng.normal(size=(files, 4)), targets
    return made


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), fraction=fractions, seed=st.integers(0, 99)
)
def test_a_single_label_draw_is_stratified(counts, fraction, seed):
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    drawn = stratified_fraction(targets, fraction, seed)
    assert (np.diff(drawn) > 0).all()
    numbers = np.bincount(targets[drawn], minlength=len(counts))
    assert (numbers >= 1).all()
    share = fraction * np.array(counts)
    assert ((np.abs(numbers - share) < 1) | ((numbers == 1) & (share < 1))).all()
    if (share >= 1).all():
        assert len(drawn) == round(fraction * len(targets))


def test_a_draw_has_the_numbers_of_scikit_learns():
    targets = np.repeat([0, 1, 2], [60, 30, 10])
    kept, _ = train_test_split(np.arange(100), train_size=0.2, stratify=targets, random_state=0)
    assert np.bincount(targets[kept]).tolist() == [12, 6, 2]
    assert np.bincount(targets[stratified_fraction(targets, 0.2)]).tolist() == [12, 6, 2]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    files=st.integers(1, 80),
    frequencies=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    fraction=fractions,
    seed=st.integers(0, 99),
)
def test_a_multi_label_draw_has_every_tag_that_occurs(files, frequencies, fraction, seed):
    targets = (np.random.default_rng(seed).random((files, len(frequencies))) < frequencies).astype(int)
    drawn = stratified_fraction(targets, fraction, seed)
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(targets[drawn].any(axis=0), targets.any(axis=0))
    # The share, or more where that is too few for all the tags.
    assert len(drawn) <= fraction * files + len(frequencies) + 1


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_a_multi_label_draw_keeps_the_frequencies_better_than_chance(fraction):
    frequencies = np.array([0.5, 0.3, 0.1, 0.05, 0.02])
    targets = (np.random.default_rng(0).random((2000, 5)) < frequencies).astype(int)
    counts = targets.sum(axis=0)
    for seed in range(4):
        drawn = stratified_fraction(targets, fraction, seed)
        assert len(drawn) == pytest.approx(fraction * 2000, abs=3)
        # Of a random draw the standard deviation of the most frequent tag's number would be 7 to 16 files.
        np.testing.assert_allclose(targets[drawn].sum(axis=0), fraction * counts, atol=3)


def test_many_tags_that_go_together_do_not_enlarge_a_draw():
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(1000, 16)) @ rng.normal(size=(16, 40)) / 4 + rng.normal(size=(1000, 40))
    targets = (scores > 2).astype(int)
    for fraction in (0.1, 0.3):
        drawn = stratified_fraction(targets, fraction)
        assert len(drawn) == fraction * 1000
        assert targets[drawn].any(axis=0).all()
        # A random draw's mean distance would be about 0.8 standard deviations.
        counts = targets.sum(axis=0)
        distance = np.abs(targets[drawn].sum(axis=0) - fraction * counts)
        assert (distance / np.sqrt(fraction * (1 - fraction) * counts)).mean() < 0.6


@pytest.mark.parametrize("targets", [np.arange(60) % 3, np.eye(3, dtype=int)[np.arange(60) % 3]])
def test_the_seed_decides_the_draw(targets):
    draws = [stratified_fraction(targets, 0.2, seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert stratified_fraction(targets, 1.0, 5).tolist() == list(range(60))


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_more_labels_help_and_all_are_those_of_the_probe(task):
    data = splits(task=task)
    calls = []
    curve = label_efficiency(
        data, task, fractions=(1.0, 0.05), draws=3, progress=lambda done, total: calls.append((done, total))
    )
    few, every = curve.results
    assert (few.fraction, every.fraction) == (0.05, 1.0)
    assert len(few.num_examples) == 3
    assert every.num_examples == (200,)
    if task == "single_label":
        assert few.num_examples == (10, 10, 10)
    assert few.mean("roc_auc") < every.mean("roc_auc")
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    result = probe("linear", data, task, n_bootstrap=1)
    assert {name: values[0] for name, values in every.metrics.items()} == pytest.approx(result.metrics)
    assert label_efficiency(data, task, fractions=(0.05, 1.0), draws=3) == curve
    assert label_efficiency(data, task, fractions=(0.05, 1.0), draws=3, seed=7) != curve


@pytest.mark.parametrize("kind", ["knn", "mlp"])
def test_other_probes_run_without_a_validation_split(kind):
    data = splits(files=80, distance=6.0)
    del data["validation"]
    curve = label_efficiency(data, fractions=[0.2], draws=1, kind=kind)
    assert curve.kind == kind
    assert curve.results[0].mean("accuracy") > 0.9


def curve(*accuracies):
    results = [
        FractionResult(fraction, (4,) * len(values), {"accuracy": tuple(values)})
        for fraction, values in zip((0.1, 1.0), accuracies, strict=True)
    ]
    return LabelEfficiency("linear", "single_label", tuple(results))


def test_mean_and_spread_by_hand(tmp_path):
    made = curve([0.5, 0.7], [0.9])
    assert made.results[0].mean("accuracy") == pytest.approx(0.6)
    assert made.results[0].spread("accuracy") == pytest.approx(np.sqrt(0.02))
    assert made.results[1].spread("accuracy") == 0
    stored = json.loads(json.dumps(made.to_dict()))
    assert (stored["kind"], stored["task"]) == ("linear", "single_label")
    assert stored["fractions"][0]["num_examples"] == [4, 4]
    assert stored["fractions"][0]["metrics"]["accuracy"]["draws"] == [0.5, 0.7]
    assert stored["fractions"][1]["metrics"]["accuracy"] == {"mean": 0.9, "spread": 0.0, "draws": [0.9]}
    path = made.to_csv(tmp_path / "made" / "curve.csv")
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["fraction", "draw", "num_examples", "accuracy"],
            ["0.1", "0", "4", "0.5"],
            ["0.1", "1", "4", "0.7"],
            ["1.0", "0", "4", "0.9"],
        ]
    assert [each.name for each in path.parent.iterdir()] == ["curve.csv"]


def test_the_picture_shows_the_means_and_the_spread(tmp_path):
    curves = {"_low $": curve([0.5, 0.7], [0.8]), "high": curve([0.7, 0.7], [0.9])}
    figure = plot_label_efficiency(curves, path=tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100"]
    assert [text.get_text() for text in axes.texts] == ["high", "_low $"]  # the best above
    low, high = axes.lines
    np.testing.assert_allclose(low.get_xydata(), [[10, 0.6], [100, 0.8]])
    np.testing.assert_allclose(high.get_xydata(), [[10, 0.7], [100, 0.9]])
    assert high.get_color() == axes.texts[0].get_color() != low.get_color()
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.6 - np.sqrt(0.02))
    assert band[:, 1].max() == pytest.approx(0.8)
    crowded = plot_label_efficiency({name: curve([0.5], [0.9]) for name in "abc"})
    heights = [text.xyann[1] for text in crowded.axes[0].texts]
    assert (np.diff(heights) < -0.05).all()


def test_mistakes_are_named(tmp_path):
    data = splits(files=20)
    for fraction in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and be at most 1, got"):
            stratified_fraction(np.arange(3), fraction)
        with pytest.raises(ValueError, match="above 0 and be at most 1, got"):
            label_efficiency(data, fractions=(0.5, fraction))
    with pytest.raises(ValueError, match=r"shape \(files,\)"):
        stratified_fraction(np.zeros((2, 2, 2)), 0.5)
    with pytest.raises(ValueError, match="0 or 1"):
        stratified_fraction(np.full((2, 2), 3), 0.5)
    with pytest.raises(ValueError, match="at least one draw"):
        label_efficiency(data, draws=0)
    with pytest.raises(ValueError, match="'test' is missing"):
        label_efficiency({"train": data["train"]})
    with pytest.raises(ValueError, match="at least one curve"):
        plot_label_efficiency({})
    with pytest.raises(ValueError, match="'a' has no 'pr_auc', only accuracy"):
        plot_label_efficiency({"a": curve([0.5], [0.6])}, "pr_auc")
    with pytest.raises(ValueError, match="must end in"):
        plot_label_efficiency({"a": curve([0.5], [0.6])}, path=tmp_path / "a.nonsense")
