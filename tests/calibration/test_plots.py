import csv

import numpy as np
import pytest
from calibration.calibration_cases import unrelated_case
from scipy.special import expit, softmax

from music_zoo.calibration import (
    mae_over_temperature,
    plot_mae_over_temperature,
    plot_reliability,
    reliability_curve,
    reliability_mae,
    write_curves,
)


def test_the_picture_shows_each_curve_and_its_counts(tmp_path):
    probabilities, targets = unrelated_case(4)
    sharper = softmax(3 * np.log(probabilities), axis=1)
    curves = {
        "before": reliability_curve(sharper, targets),
        "after": reliability_curve(probabilities, targets),
    }
    figure = plot_reliability(curves, tmp_path / "made" / "reliability.png")
    assert (tmp_path / "made" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["reliability.png"]
    above, beneath = figure.axes
    drawn = {line.get_label().split(" ")[0]: line.get_xydata() for line in above.lines[1:]}
    for name, curve in curves.items():
        filled = curve.counts > 0
        np.testing.assert_array_equal(
            drawn[name], np.stack([curve.targets[filled], curve.accuracy[filled]], axis=1)
        )
    assert [patch.get_data().values.sum() for patch in beneath.patches] == [1000, 1000]


def test_a_picture_needs_curves_and_a_known_format(tmp_path):
    for write in (plot_reliability, plot_mae_over_temperature, write_curves):
        with pytest.raises(ValueError, match="at least one curve"):
            write({}, tmp_path / "a.png")
    curve = reliability_curve([[0.5, 0.5]], [0])
    with pytest.raises(ValueError, match="must end in"):
        plot_reliability({"a": curve}, tmp_path / "a.nonsense")
    assert not list(tmp_path.iterdir())


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_holds_every_bucket_of_every_curve(tmp_path):
    curve = reliability_curve(np.tile([0.8, 0.2], (4, 1)), np.array([0, 0, 0, 1]))
    rows = read(write_curves({"one": curve, "two, so to say": curve}, tmp_path / "curves.csv"))
    assert [row["curve"] for row in rows] == ["one"] * 10 + ["two, so to say"] * 10
    np.testing.assert_allclose([float(row["targets"]) for row in rows[:10]], np.arange(0.05, 1, 0.1))
    assert [row["accuracy"] for row in rows[:10]] == ["", "0.25", "", "", "", "", "", "0.75", "", ""]
    assert [row["counts"] for row in rows[10:]] == [row["counts"] for row in rows[:10]]
    assert [int(row["counts"]) for row in rows[:10]] == [0, 4, 0, 0, 0, 0, 0, 4, 0, 0]


def windows_case(seed=0, files=60, members=3, classes=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(files, members, classes)) * 3, rng.integers(classes, size=files)


def test_a_sweep_measures_the_mean_of_posteriors_at_each_temperature():
    logits, targets = windows_case()
    sweep = mae_over_temperature(logits, targets, temperatures=[2, 0.5])
    assert sweep.temperatures.tolist() == [0.5, 2]
    expected = [reliability_mae(softmax(logits / t, axis=2).mean(axis=1), targets) for t in (0.5, 2)]
    assert sweep.mae == pytest.approx(expected)
    assert not sweep.is_fitted.any()
    tags = np.eye(4, dtype=int)[targets]
    sweep = mae_over_temperature(logits[:, 0], tags, "multi_label", [3])
    assert sweep.mae == pytest.approx([reliability_mae(expit(logits[:, 0] / 3), tags, "multi_label")])


def test_files_of_a_sweep_may_have_different_numbers_of_windows():
    logits, targets = windows_case()
    ragged = [file[: 1 + i % 3] for i, file in enumerate(logits)]
    means = np.stack([softmax(file / 2, axis=1).mean(axis=0) for file in ragged])
    sweep = mae_over_temperature(ragged, targets, temperatures=[2])
    assert sweep.mae == pytest.approx([reliability_mae(means, targets)])


def test_temperatures_of_a_sweep_are_above_zero():
    for temperatures in ([0.0, 1.0], [np.inf]):
        with pytest.raises(ValueError, match="above 0"):
            mae_over_temperature(*windows_case(), temperatures=temperatures)


def test_the_picture_of_a_sweep_marks_the_fitted_temperature(tmp_path):
    logits, targets = windows_case()
    sweeps = {
        "single": mae_over_temperature(logits[:, 0], targets, fitted=1.234),
        "ensemble": mae_over_temperature(logits, targets),
    }
    figure = plot_mae_over_temperature(sweeps, tmp_path / "sweep.svg")
    assert (tmp_path / "sweep.svg").read_text().startswith("<?xml")
    single, ensemble = figure.axes[0].lines[1:]
    (marked,) = single.get_markevery()
    at, mae = single.get_xydata()[marked]
    assert at == 1.234
    assert mae == pytest.approx(reliability_mae(softmax(logits[:, 0] / 1.234, axis=1), targets))
    assert ensemble.get_markevery() == []
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["single (fitted: 1.23)", "ensemble"]

    rows = read(write_curves(sweeps, tmp_path / "sweep.csv"))
    assert len(rows) == sum(len(sweep.mae) for sweep in sweeps.values())
    (row,) = [row for row in rows if row["is_fitted"] == "True"]
    assert (row["curve"], float(row["temperatures"]), float(row["mae"])) == ("single", 1.234, mae)
