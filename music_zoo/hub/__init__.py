"""Preset files: where they are listed, how they are written and read, where they come from.

This is the only room that touches the network or writes published files. Nothing here imports Keras, and
nothing is imported before it is asked for:

- `manifest`: the list of presets, `weights_manifest.json` (standard library only).
- `preset_files`: a preset's folder of config, weights and golden tensors, written in one step, read strictly.
- `sources`: from a preset's name to a folder of verified files: bundled, from the Hub, or from an address.
- `schema`, `files`: what these share: JSON checked against dataclasses; file names, writing in one step.
"""
