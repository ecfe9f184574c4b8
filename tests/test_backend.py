"""Which backend is chosen, what is said where none is there, and what is imported before its time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from music_zoo import BackendMissingError, backend

ROOT = Path(__file__).parents[1]


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a process without a chosen backend."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "KERAS_HOME")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=inherited | environment,
        check=False,
    )


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with these backends installed; returns the folder of Keras' settings."""

    def make(*installed: str, config: str | None = None, **environment: str):
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        if config is not None:
            (tmp_path / "keras.json").write_text(config)
        monkeypatch.setattr(backend, "find_spec", lambda name: name in installed or None)

    return make


@pytest.mark.parametrize(
    ("installed", "config", "chosen"),
    [
        (("tensorflow", "jax", "torch"), None, "tensorflow"),
        (("torch", "jax"), None, "jax"),
        (("torch",), None, "torch"),
        (("jax", "torch"), '{"backend": "torch"}', "torch"),
        (("jax",), '{"backend": "tensorflow"}', "jax"),  # as Keras writes it by itself
        (("jax",), '{"backend": "os"}', "jax"),
        (("jax",), "[]", "jax"),
        (("jax",), "{", "jax"),
    ],
)
def test_an_installed_backend_is_chosen(machine, installed, config, chosen):
    machine(*installed, config=config)
    backend.choose_backend()
    assert os.environ["KERAS_BACKEND"] == chosen
    backend.require_backend()


def test_the_user_s_choice_is_kept(machine):
    machine("tensorflow", "torch", KERAS_BACKEND="torch")
    backend.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "torch"


def test_keras_that_is_imported_already_is_left_alone(machine, monkeypatch):
    machine()
    monkeypatch.setitem(sys.modules, "keras", sys)
    backend.choose_backend()
    assert "KERAS_BACKEND" not in os.environ
    backend.require_backend()


@pytest.mark.parametrize("environment", [{}, {"KERAS_BACKEND": ""}])
def test_no_backend_is_an_error_that_names_the_extras(machine, environment):
    machine(**environment)
    backend.choose_backend()
    with pytest.raises(BackendMissingError) as caught:
        backend.require_backend()
    for extra in ("tensorflow", "jax", "torch"):
        assert f'pip install "music-zoo[{extra}]"' in str(caught.value)


def test_a_chosen_backend_that_is_missing_or_foreign_is_named(machine):
    machine("jax", KERAS_BACKEND="torch")
    with pytest.raises(
        BackendMissingError, match=r"KERAS_BACKEND is 'torch', which is not installed.*\[torch\]"
    ):
        backend.require_backend()
    machine("jax", KERAS_BACKEND="numpy")
    with pytest.raises(
        BackendMissingError, match="KERAS_BACKEND is 'numpy'; music_zoo runs on one of tensorflow"
    ):
        backend.require_backend()


def test_without_backends_the_package_imports_and_says_what_is_missing():
    result = python("""
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in ("tensorflow", "jax", "torch") else find(name, *a)
import music_zoo
music_zoo.list_models()
for use in (lambda: music_zoo.load("resnet-fma"), lambda: music_zoo.Classifier):
    try:
        use()
    except music_zoo.BackendMissingError as error:
        print(error)
""")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('pip install "music-zoo[jax]"') == 2


def test_nothing_heavy_is_imported_before_it_is_needed():
    result = python("""
import sys, music_zoo
music_zoo.list_models()
heavy = "keras tensorflow jax torch librosa sklearn scipy matplotlib huggingface_hub soundfile".split()
print(*(name for name in heavy if name in sys.modules))
""")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_a_user_without_a_home_folder(monkeypatch, machine):
    machine("jax")
    monkeypatch.delenv("KERAS_HOME")

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    backend.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_names_that_the_package_does_not_have():
    import music_zoo

    with pytest.raises(AttributeError, match="'music_zoo' has no attribute 'Regressor'"):
        music_zoo.Regressor  # noqa: B018
