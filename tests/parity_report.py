"""Prints how near every network is to its original: `python -m tests.parity_report [NAME ...]`.

For each fixture the parameters, the largest differences of features and logits, their limits, the verdict.
Runs on the backend of KERAS_BACKEND. Published checkpoints are compared if they are among the real data.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

from tests.conftest import DATA_ROOT

PARITY = Path(__file__).parent / "parity"
sys.path.insert(0, str(PARITY))

from fixtures import build, compare, count_parameters, rule_weights, specification  # noqa: E402
from published import CHECKPOINTS, compare_published  # noqa: E402

#: Modules of `tests/parity` that have CASES.
FAMILIES = ("smc2020", "sample_cnn")


def main() -> int:
    """Compare, print, and return 1 if any difference is larger than it may be."""
    warnings.filterwarnings("ignore", message=".*mel filters catch no frequency bin")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="fixtures; all if none is given")
    arguments = parser.parse_args()
    cases = {
        name: case for family in FAMILIES for name, case in importlib.import_module(family).CASES.items()
    }
    published = [f"published {name}" for name in CHECKPOINTS] if (DATA_ROOT / "originals").is_dir() else []
    known = [*cases, *published]
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no fixture named {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    table = Table("fixture", "parameters", "original", "compared", "difference", "limit", "verdict")
    failures = 0
    for name in arguments.names or known:
        if name in cases:
            classifier = build(cases[name], rule_weights(name))
            counts = [count_parameters(classifier), specification(name)["trainable_parameters"]]
            rows = compare(name, cases[name], classifier)
        else:
            counts, rows = [0, 0], compare_published(name.removeprefix("published "), DATA_ROOT)
        good = counts[0] == counts[1] and all(row.difference <= row.limit for row in rows)
        failures += not good
        for number, row in enumerate(rows):
            first = [name, *(f"{count:,}" if count else "" for count in counts)]
            table.add_row(
                *(first if number == 0 else ["", "", ""]),
                row.array,
                f"{row.difference:.1e}",
                f"{row.limit:.0e}",
                "equal" if row.difference <= row.limit else "DIFFERENT",
                end_section=number == len(rows) - 1,
            )
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(f"backend: {keras.config.backend()}", table, f"{failures} fixtures differ", sep="\n")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
