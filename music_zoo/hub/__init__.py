"""Preset files: where they are listed, how they are written and read, where they come from.

This is the only room that touches the network or writes published files. Nothing here imports Keras, but for
the conversion of an original, and nothing is imported before it is asked for:

- `manifest`: the list of presets, `weights_manifest.json`; `schema`: its parts. Both need pydantic only.
- `preset_files`: a preset's folder of config, weights and golden tensors, written in one step, read strictly.
- `sources`: from a preset's name to a folder of verified files: bundled, from the Hub, from an address, or
  from the authors of a checkpoint; `originals`: the last of these, checked and converted.
- `checkpoints`: original checkpoints (PyTorch's, Keras' HDF5) as arrays, without running what they contain.
- `convert`: such arrays to our tensors, by the tables in `conversion`, with nothing missing or left over.
- `files`: what these share: file names, strict JSON, writing in one step.
"""
