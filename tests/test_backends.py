"""The same tests, and the same numbers, on TensorFlow, JAX and PyTorch, each in a process of its own."""

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from music_zoo.backend import BACKENDS

ROOT = Path(__file__).parents[1]
TOLERANCES = {"decibels": 1e-3, "embeddings": 1e-5, "probabilities": 1e-5, "losses": 1e-4}

SUITE = ["-m", "pytest", "-m", "keras and not slow", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
#: Folders and files that take half an hour on JAX, which compiles every network and trainer anew: they have a
#: slow test of their own. What backends are compared on below is trained, calibrated and put into ensembles.
SLOW_ON_JAX = {
    "models",
    "parity",
    "pretraining",
    "training",
    "augmentation",
    "test_calibrate.py",
    "test_catalogue.py",
    "test_cli_audio.py",
    "test_ensemble.py",
    "test_explain.py",
    "test_hub_end_to_end.py",
    "test_hub_models.py",
    "test_published_presets.py",
    "test_reject_cli.py",
    "test_training_cli.py",
    "test_similarity.py",
    "test_untrained.py",
}


def parts() -> dict[str, list[Path]]:
    """The test files that need Keras, by folder, so that several processes can share them."""
    by_folder = {}
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        folder = path.relative_to(ROOT / "tests").parts[0] if path.parent.name != "tests" else "top level"
        if path != Path(__file__) and "mark.keras" in path.read_text("utf-8"):
            by_folder.setdefault(folder, []).append(path)
    return by_folder


def is_slow_on_jax(path: Path) -> bool:
    return not SLOW_ON_JAX.isdisjoint((path.parent.name, path.name))


def run(backend: str, *arguments: str, **variables: str) -> None:
    """Run Python on a backend, with further environment variables; fail with the end of what it wrote."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",  # PyTorch with more is slower on small models
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        **variables,
    }
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-60:])
        pytest.fail(f"{backend}: {' '.join(arguments)}\n{tail}", pytrace=False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("part", parts())
def test_tests_that_need_keras_pass_on_the_other_backends(backend, part):
    if backend == os.environ.get("KERAS_BACKEND"):
        pytest.skip("this is the backend of the tests around this one")
    files = [path for path in parts()[part] if backend != "jax" or not is_slow_on_jax(path)]
    if not files:
        pytest.skip("slow; see test_everything_passes_on_jax")
    # Not marked keras itself, this file is not among them. JAX compiles for longer than it runs.
    run(backend, *SUITE, *map(str, files), JAX_DISABLE_MOST_OPTIMIZATIONS="1")


@pytest.mark.slow
def test_everything_passes_on_jax():
    files = [path for part in parts().values() for path in part if is_slow_on_jax(path)]
    run("jax", *SUITE, *map(str, files))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs by name of a backend, computed once."""
    folder, computed = tmp_path_factory.mktemp("outputs"), {}

    def of(backend: str) -> dict[str, np.ndarray]:
        if backend not in computed:
            run(backend, "tests/backend_outputs.py", str(folder / f"{backend}.npz"))
            with np.load(folder / f"{backend}.npz") as arrays:
                computed[backend] = dict(arrays)
        return computed[backend]

    return of


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(BACKENDS, 2)))
def test_backends_give_the_same_numbers(outputs, one, other):
    ours, theirs = outputs(one), outputs(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        tolerance = TOLERANCES[name.split()[0]]
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_forms_of_the_fourier_transform_give_the_same_features(outputs, backend):
    by = outputs(backend)
    np.testing.assert_allclose(by["decibels by fft"], by["decibels by conv"], rtol=0, atol=1e-3)
