"""Training of any architecture of the zoo by a recipe, a YAML file; `music-zoo train` runs them.

`recipe` says what a recipe may hold, `run` follows one from data to preset.
"""
