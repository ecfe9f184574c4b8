"""What a person or a program reads of a classification."""

import json
from dataclasses import replace

import numpy as np
import pytest

from music_zoo.plots import _timeline
from music_zoo.prediction import Prediction

TAGGRAM = np.array([[0.125, 0.5, 0.375], [0.25, 0.625, 0.125]], np.float32)


@pytest.fixture
def prediction() -> Prediction:
    return Prediction(
        source="a/song.mp3",
        model="small",
        task="single_label",
        labels=("calm", "fast", "loud"),
        probabilities=TAGGRAM.mean(axis=0),
        taggram=TAGGRAM,
        times=np.array([[0, 30], [12.3456, 42.3456]]),
        duration=42.3456,
        notes=("recorded at 4000 Hz.",),
    )


def test_label_confidence_and_top(prediction):
    assert prediction.label == "fast"
    assert prediction.confidence == 0.5625
    assert prediction.top(2) == [("fast", 0.5625), ("loud", 0.25)]
    assert prediction.top(9) == [("fast", 0.5625), ("loud", 0.25), ("calm", 0.1875)]


def test_equal_probabilities_keep_the_order_of_the_labels(prediction):
    equal = Prediction(**vars(prediction) | {"probabilities": np.full(3, 1 / 3)})
    assert [label for label, _ in equal.top()] == ["calm", "fast", "loud"]


def test_to_dict_is_json_with_and_without_windows(prediction):
    result = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    windows = result.pop("windows")
    assert result == json.loads(json.dumps(prediction.to_dict(taggram=False)))
    assert result == {
        "source": "a/song.mp3",
        "model": "small",
        "task": "single_label",
        "duration": 42.346,
        "label": "fast",
        "probabilities": {"calm": 0.1875, "fast": 0.5625, "loud": 0.25},
        "notes": ["recorded at 4000 Hz."],
    }
    assert windows[1] == {
        "start": 12.346,
        "end": 42.346,
        "probabilities": {"calm": 0.25, "fast": 0.625, "loud": 0.125},
    }


def test_text_has_a_line_for_the_source_each_label_and_each_note(prediction):
    assert str(prediction) == prediction.to_text()
    assert prediction.to_text(2).splitlines() == [
        "a/song.mp3  (42.3 s)",
        "   56.2%  fast",
        "   25.0%  loud",
        "  note: recorded at 4000 Hz.",
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".PDF"])
def test_plot_writes_a_picture_in_one_step(prediction, tmp_path, suffix):
    path = tmp_path / "new" / f"taggram{suffix}"
    assert prediction.plot(str(path), n=2) == path
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".PDF": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(magic)
    assert list(path.parent.iterdir()) == [path]


def test_plot_names_the_formats_where_it_knows_none(prediction, tmp_path):
    with pytest.raises(ValueError, match=r"taggram\.doc: .*\.png"):
        prediction.plot(tmp_path / "taggram.doc")
    assert list(tmp_path.iterdir()) == []


def test_timeline_is_the_mean_of_the_windows_over_each_stretch():
    times = np.array([[0.0, 3], [1, 4], [2, 5]])
    edges, means = _timeline(times, np.array([[0.0, 1], [3, 1], [6, 1]]))
    np.testing.assert_array_equal(edges, [0, 1, 2, 3, 4, 5])
    np.testing.assert_allclose(means, [[0, 1], [1.5, 1], [3, 1], [4.5, 1], [6, 1]], atol=1e-12)


def test_timeline_of_ten_hours_takes_little_memory():
    starts = np.arange(36_000.0)
    times = np.stack([starts, starts + 30], axis=1)
    edges, means = _timeline(times, np.ones((36_000, 10)))
    assert means.shape == (len(edges) - 1, 10)
    np.testing.assert_allclose(means, 1)


@pytest.fixture
def unsure(prediction) -> Prediction:
    """Sure enough in the second window, not in the first, nor on the whole."""
    return replace(prediction, min_confidence=0.6)


def test_it_abstains_below_the_confidence_that_is_asked_for(prediction, unsure):
    assert (prediction.abstains, prediction.decision) == (False, "fast")
    assert (unsure.abstains, unsure.decision, unsure.label) == (True, None, "fast")
    enough = replace(prediction, min_confidence=0.5625)
    assert (enough.abstains, enough.decision) == (False, "fast")


def test_several_labels_are_abstained_of_where_none_is_probable_enough(prediction):
    tags = {"task": "multi_label", "probabilities": np.array([0.7, 0.1, 0.65])}
    assert not replace(prediction, **tags, min_confidence=0.7).abstains
    assert replace(prediction, **tags, min_confidence=0.71).decision is None


def test_abstaining_is_told(prediction, unsure):
    told = {"min_confidence": 0.6, "abstains": True}
    assert unsure.to_dict() == prediction.to_dict() | told
    assert unsure.to_text(1).splitlines()[1:] == [
        "  abstains: no label reaches 60.0%",
        "   56.2%  fast",
        "  note: recorded at 4000 Hz.",
    ]
    sure = replace(prediction, min_confidence=0.25)
    assert sure.to_dict() == prediction.to_dict() | {"min_confidence": 0.25, "abstains": False}
    assert sure.to_text() == prediction.to_text()


@pytest.mark.parametrize(
    ("min_confidence", "hatched"),
    [
        (None, []),
        (0.4, []),
        (0.55, [(0, 12.3456)]),  # only the first window; in both, the mean reaches it; then only the second
        (0.6, [(0, 30)]),
        (0.9, [(0, 42.3456)]),
    ],
)
def test_times_without_an_answer_are_hatched(prediction, tmp_path, monkeypatch, min_confidence, hatched):
    drawn = []
    monkeypatch.setattr("music_zoo.plots.save_figure", lambda figure, path: drawn.append(figure))
    replace(prediction, min_confidence=min_confidence).plot(tmp_path / "taggram.png", n=1)
    over_time = drawn[0].axes[0]
    bars = [path for part in over_time.collections if part.get_hatch() for path in part.get_paths()]
    assert [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in bars] == hatched
    legend = over_time.get_legend()
    assert (legend is not None) == bool(hatched)
    if hatched:
        assert legend.get_texts()[0].get_text() == f"abstains: no label reaches {min_confidence:.0%}"
