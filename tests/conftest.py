"""What all tests share: where the real data lies, and which backend runs."""

import os
from pathlib import Path

import pytest

DATA_ROOT = Path(os.environ.get("MUSIC_ZOO_TEST_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and songs, which the repository does not hold."""
    if not DATA_ROOT.is_dir():
        pytest.skip(f"no real data at {DATA_ROOT} (set MUSIC_ZOO_TEST_DATA)")
    return DATA_ROOT
