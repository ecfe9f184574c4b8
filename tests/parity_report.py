"""How near every network is to its original: `python -m tests.parity_report [--all] [NAME ...]`.

For each fixture the parameters, the largest difference of logits, and of all that is compared what comes
nearest to its limit. DIFFERENT: something exceeds its limit, or the numbers of parameters differ.
Runs on the backend of KERAS_BACKEND. Published checkpoints are compared if they are among the real data.
"""

import argparse
import importlib
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

from tests.conftest import DATA_ROOT

PARITY = Path(__file__).parent / "parity"


def comparisons() -> dict[str, Callable]:
    """Return what the tests of parity compare, and the published checkpoints, if they are there."""
    sys.path.insert(0, str(PARITY))
    modules = [importlib.import_module(path.stem) for path in sorted(PARITY.glob("test_*.py"))]
    found = {name: run for module in modules for name, run in getattr(module, "COMPARISONS", {}).items()}
    if (DATA_ROOT / "originals").is_dir():
        published = importlib.import_module("published")
        for name in published.CHECKPOINTS:
            found[f"published {name}"] = partial(published.compare_published, name, DATA_ROOT)
    return found


def main() -> int:
    """Compare, print, and return 1 if any difference is larger than it may be."""
    warnings.filterwarnings("ignore", message=".*mel filters catch no frequency bin")
    known = comparisons()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="fixtures; all if none is given")
    parser.add_argument("--all", action="store_true", help="all comparisons, a line each")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no fixture named {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    table = Table("fixture", "parameters", "logits", "nearest to its limit", "difference", "limit", "verdict")
    failures = 0
    for name in arguments.names or known:
        comparison = known[name]()
        failures += bool(comparison.failures)
        nearest = max(comparison.rows, key=lambda row: row.difference / row.limit)
        logits = max(row.difference for row in comparison.rows if "logits" in row.array)
        for row in comparison.rows if arguments.all else [nearest]:
            table.add_row(
                name,
                f"{comparison.parameters:,}" if comparison.parameters else "",
                f"{logits:.1e}",
                row.array,
                f"{row.difference:.1e}",
                f"{row.limit:.0e}",
                "DIFFERENT" if comparison.failures else "equal",
            )
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(f"backend: {keras.config.backend()}", table, f"{failures} fixtures differ", sep="\n")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
