"""All benchmarks, one after another, as one report in Markdown and one file of JSON.

    python benchmarks/run.py --output results                 # hours on two cores; on an idle machine
    python benchmarks/run.py --output results --quick         # minutes, on less of everything
    python benchmarks/run.py --output results --only decode end_to_end

Each script runs in a process of its own with the options that the report names. `report.md` is what they
print; `results.json` holds by script every time of every round, with settings and versions. A script that
fails is named in the report, and the exit status is then 1.
"""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import turns

#: By script: its options in a full and in a quick run.
SCRIPTS = {
    "limits": ("", "--repeats 3"),
    "decode": ("", "--seconds 10 --repeats 3 --rates 16000"),
    "front_end": ("", "--batch 1 --repeats 3"),
    "forward": ("--repeats 5", "--models resnet-compact musicnn-won --batch 2 --repeats 3"),
    "int8": ("", "--models resnet-fma --repeats 3"),
    "training": ("", "--methods moco --batch 16 --repeats 3"),
    "end_to_end": ("", "--models resnet-fma --references 'plain PyTorch' --files 1 --repeats 3"),
    "startup": ("", "--runs 1 --predictions 1"),
    "memory": ("", "--files 1 --hours 0.1 0.4"),
}
#: Scripts that do not take turns, and so not `--threads` and `--cpu-time`.
ALONE = ("startup", "memory")


def main() -> int:
    parser = turns.parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="made if it is not there")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--threads", type=int, default=2, help="of each process, where scripts take turns")
    parser.add_argument("--cpu-time", action="store_true", help="there: processor time, with --threads 1")
    options = parser.parse_args()
    timing = ["--threads", str(options.threads), *(["--cpu-time"] if options.cpu_time else [])]
    options.output.mkdir(parents=True, exist_ok=True)
    results, failed = {}, []
    with (options.output / "report.md").open("w") as report:

        def say(text: str) -> None:
            print(text, end="", flush=True)
            report.write(text)
            report.flush()

        say(
            f"# Benchmarks, {datetime.now(UTC):%Y-%m-%d}\n\n{turns.processor()}, {options.threads} threads.\n"
        )
        for name in options.only:
            arguments = shlex.split(SCRIPTS[name][options.quick])
            arguments += [] if name in ALONE else timing
            say(f"\n## {name}.py\n\n`python benchmarks/{name}.py {shlex.join(arguments)}`\n\n")
            begin = time.perf_counter()
            results[name] = run(name, arguments, say)
            if results[name] is None:
                failed.append(name)
                say("\n**failed**\n")
            say(f"\n{time.perf_counter() - begin:.0f} s.\n")
    (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return int(bool(failed))


def run(name: str, arguments: list[str], say) -> dict | None:
    """Run a script, saying what it prints; return what it measured, or None where it failed."""
    script = Path(__file__).with_name(f"{name}.py")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        command = [sys.executable, str(script), *arguments, "--json", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                say(line)
        return json.loads(file.read_text()) if process.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
