"""Tables from our tensors' names to those of original checkpoints, one module a family of sources.

`music_zoo.hub.convert` applies them. `table` says what a table is made of.
"""
