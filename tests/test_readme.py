"""What README.md says is what the commands print and what continuous integration runs."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import music_zoo
from music_zoo.cli import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_of_presets_is_what_the_command_prints(readme):
    """`music-zoo models --markdown` makes the table anew."""
    table = re.search(r"<!-- models -->\n(.*)<!-- /models -->", readme, re.DOTALL)[1]
    assert table.strip() == CliRunner().invoke(app, ["models", "--markdown"]).stdout.strip()


def test_every_preset_is_in_the_table(readme):
    for name in music_zoo.list_models():
        assert f"\n| {name} |" in readme


def test_command_that_runs_the_tests_is_that_of_continuous_integration(readme):
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    (command,) = [line for line in lines if "pytest" in line]
    assert command in readme.splitlines()
