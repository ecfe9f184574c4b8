"""Render notes of synthesised instruments, to train on beside the few real ones of the NSynth test set.

    apt-get install fluidsynth fluid-soundfont-gm csound-soundfont && pip install --no-deps pyfluidsynth
    python examples/render_notes.py --notes nsynth-test --output nsynth-rendered

Writes a folder of the same layout, which `music-zoo train` reads: real notes (links to their files) in the
split they had, rendered ones all for training, so that validation and test stay real. Rendered ones have no
qualities. They are like NSynth's (Engel et al. 2017, arXiv:1704.01279): 16 kHz, held for three seconds of
four, five velocities. Families get the same number of notes, spread over their General MIDI programs in each
soundfont. Tone, attack and level vary beyond what a soundfont offers. The same seed gives the same notes.

The soundfonts are free: FluidR3 (MIT) and csound's (public domain). Only Debian's own files were tried.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
from rich.progress import track

from music_zoo.files import replacing

SAMPLE_RATE = 16_000
HELD, LENGTH = 3 * SAMPLE_RATE, 4 * SAMPLE_RATE
VELOCITIES = (25, 50, 75, 100, 127)
SOUNDFONTS = {
    "fluid": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "csound": Path("/usr/share/sounds/sf2/sf_GMbank.sf2"),
}
#: General MIDI programs (from 0) and compass of the families that the NSynth test set has.
FAMILIES = {
    "bass": (range(32, 40), (24, 67)),
    "brass": (range(56, 64), (36, 86)),
    "flute": (range(72, 80), (48, 96)),
    "guitar": (range(24, 32), (36, 88)),
    "keyboard": (range(0, 8), (21, 108)),
    "mallet": ((*range(8, 15), 47, 108, 114), (36, 108)),
    "organ": (range(16, 22), (24, 108)),
    "reed": ((*range(64, 72), 22), (34, 92)),
    "string": ((*range(40, 47), 48, 49, 110), (28, 96)),
    "vocal": ((52, 53, 54, 85, 91), (36, 90)),
}
PEAK = 0.02  # quieter notes, outside what an instrument can play, are drawn again


def main(arguments: list[str] | None = None) -> None:
    """Link the real notes, render the others, write both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--notes", type=Path, required=True, help="folder of the real notes")
    parser.add_argument("--output", type=Path, required=True, help="new folder")
    parser.add_argument("--per-family", type=int, default=1500, help="rendered notes of each family")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    if args.output.exists():
        parser.error(f"--output: expected a new folder; {args.output} exists")
    audio = args.output / "audio"
    audio.mkdir(parents=True)
    examples = json.loads((args.notes / "examples.json").read_text(encoding="utf-8"))
    for name in examples:
        (audio / f"{name}.opus").symlink_to((args.notes / "audio" / f"{name}.opus").resolve())
    shutil.copy(args.notes / "instrument-split.csv", args.output)
    instruments = [
        (family, font, program)
        for family, (programs, _) in FAMILIES.items()
        for font in SOUNDFONTS
        for program in programs
    ]
    with (args.output / "instrument-split.csv").open("a", newline="", encoding="utf-8") as table:
        rows = csv.writer(table, lineterminator="\n")
        for family, font, program in track(instruments, description="rendering"):
            name = f"{family}_{font}_{program:03}"
            count = max(1, args.per_family // (len(FAMILIES[family][0]) * len(SOUNDFONTS)))
            rng = np.random.default_rng((args.seed, list(SOUNDFONTS).index(font), program))
            for note, about, samples in render(name, family, font, program, count, rng):
                soundfile.write(audio / f"{note}.opus", samples, SAMPLE_RATE, format="OGG", subtype="OPUS")
                examples[note] = about
            rows.writerow([name, family, count, "train"])
    with replacing(args.output / "examples.json") as temporary:
        temporary.write_text(json.dumps(examples, indent=0) + "\n", encoding="utf-8")
    print(f"wrote {args.output}: {len(examples)} notes")


def render(instrument: str, family: str, font: str, program: int, count: int, rng: np.random.Generator):
    """Yield `count` notes of an instrument: name, entry of `examples.json`, samples `(64000,)`."""
    import fluidsynth  # which needs its library

    synth = fluidsynth.Synth(
        samplerate=float(SAMPLE_RATE), gain=0.5, **{"synth.reverb.active": 0, "synth.chorus.active": 0}
    )
    bank = synth.sfload(str(SOUNDFONTS[font]))
    if bank < 0:
        raise SystemExit(f"{SOUNDFONTS[font]} cannot be read; see the first lines of this script.")
    low, high = FAMILIES[family][1]
    done = set()
    for _ in range(20 * count):
        pitch, velocity = int(rng.integers(low, high + 1)), int(rng.choice(VELOCITIES))
        note = f"{instrument}-{pitch:03}-{velocity:03}-{len(done):03}"
        synth.program_select(0, bank, 0, program)
        synth.noteon(0, pitch, velocity)
        held = synth.get_samples(HELD)
        synth.noteoff(0, pitch)
        samples = np.concatenate([held, synth.get_samples(LENGTH - HELD)])
        samples = samples.reshape(-1, 2).mean(axis=1) / 32768
        synth.all_sounds_off(0)
        synth.get_samples(1024)  # what is left of the note in its buffers
        if np.abs(samples).max() < PEAK:
            continue
        done.add(note)
        yield (
            note,
            {
                "pitch": pitch,
                "velocity": velocity,
                "instrument_str": instrument,
                "instrument_family_str": family,
                "instrument_source_str": "synthetic",
                "qualities_str": [],
            },
            vary(samples, rng),
        )
        if len(done) == count:
            break
    else:
        raise SystemExit(f"{instrument}: most of its notes are silent.")
    synth.delete()


def vary(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another tone (a tilt and a low-pass), attack and level: `(samples,)` in and out, float32."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 50) / 1000)
    samples = np.fft.irfft(spectrum * 10 ** (rng.normal(0, 3) * octaves / 20), len(samples))
    if rng.random() < 0.5:
        corner = 10 ** rng.uniform(np.log10(800), np.log10(7500))
        samples = scipy.signal.sosfilt(scipy.signal.butter(2, corner, fs=SAMPLE_RATE, output="sos"), samples)
    if rng.random() < 0.3:
        rise = int(rng.uniform(0.005, 0.15) * SAMPLE_RATE)
        samples[:rise] *= np.linspace(0, 1, rise)
    return (samples / np.abs(samples).max() * rng.uniform(0.3, 0.95)).astype(np.float32)


if __name__ == "__main__":
    main()
