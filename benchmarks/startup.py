"""How long commands take that need no model; they should stay under 0.7 s.

python benchmarks/startup.py
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = (["--version"], ["--help"], ["models"], ["tag", "--help"])
SCRIPT = "from music_zoo.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print(f"{'command':24}{'median s':>10}{'least s':>10}   of {runs} runs")
    for command in COMMANDS:
        seconds = [measure(command) for _ in range(runs)]
        name = " ".join(["music-zoo", *command])
        print(f"{name:24}{statistics.median(seconds):10.2f}{min(seconds):10.2f}")


def measure(command: list[str]) -> float:
    """Wall-clock seconds of one run in a process of its own."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", SCRIPT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
