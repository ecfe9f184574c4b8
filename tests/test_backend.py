"""Which backend is chosen, what is said where none is there, and what is imported before its time."""

import os
import platform
import re
import subprocess
import sys
import tomllib
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
        found = (*installed, *backend.PACKAGES)
        monkeypatch.setattr(backend, "find_spec", lambda name: name in found or None)

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


def test_a_backend_without_what_models_need_names_the_extra(machine, monkeypatch):
    machine("torch", KERAS_BACKEND="torch")
    found = ("torch", *backend.PACKAGES.keys() - {"sklearn", "matplotlib"})
    monkeypatch.setattr(backend, "find_spec", lambda name: name in found or None)
    message = r'torch is installed, but not scikit-learn, matplotlib, .*pip install "music-zoo\[torch\]"'
    with pytest.raises(BackendMissingError, match=message):
        backend.require_backend()


def test_threads_are_as_many_as_the_user_or_the_machine_has(monkeypatch):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):
        monkeypatch.setenv(name, "7")
    backend.limit_threads(3)
    assert backend.thread_limit() == 3
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == os.environ["NPROC"] == "3"
    for unusable in ("", "0", "4,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert backend.thread_limit() == os.cpu_count()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again():
    program = """
import resource, numpy as np
from music_zoo.backend import keep_freed_memory
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(25_000_000, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
pages()
given_back = pages()
keep_freed_memory()
pages()
print(given_back, pages())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept < given_back / 10


#: Run before anything else: as if only `music-zoo[onnx]` were installed.
LIGHT_INSTALL = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ABSENT = {"tensorflow", "jax", "torch", "keras", "sklearn", "scipy", "matplotlib", "huggingface_hub", "yaml"}
ABSENT |= {"onnx", "librosa"}
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in ABSENT else found(name, *a)
"""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["--help"], "Pretrained music classifiers"),
        (["models"], "resnet-fma"),
        (["describe", "resnet-fma"], "Hip-Hop"),
    ],
)
def test_the_light_install_knows_the_presets(command, says):
    result = python(LIGHT_INSTALL + f"sys.argv[1:] = {command!r}\nfrom music_zoo.cli import main; main()")
    assert result.returncode == 0, result.stderr
    assert says in result.stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["tag", "examples/demo.ogg"], 'pip install "music-zoo[jax]"'),
        (["tag", "examples/demo.ogg", "--taggram", "never.png"], "pip install matplotlib"),
        (["cache"], 'huggingface-hub is not installed: pip install "music-zoo[models]"'),
    ],
)
def test_the_light_install_says_what_is_missing(command, says):
    result = python(LIGHT_INSTALL + f"sys.argv[1:] = {command!r}\nfrom music_zoo.cli import main; main()")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("music-zoo: ") and says in line


def test_the_core_needs_no_keras():
    """What pyproject.toml says, as `pip install "music-zoo[onnx]"` reads it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[a-z-]+(\[[a-z,]+\])?", each)[0] for each in requirements}

    models = names(project["optional-dependencies"]["models"])
    assert models == set(backend.PACKAGES.values())
    assert not models & (names(project["dependencies"]) | names(project["optional-dependencies"]["onnx"]))
    for name in backend.BACKENDS:
        assert names(project["optional-dependencies"][name]) == {"music-zoo[models]", name}


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
