"""Checkpoints of CLMR (Spijkervet and Burgoyne 2021, Spijkervet/CLMR), state dicts of PyTorch."""

from music_zoo.hub.conversion.table import Table

TABLES = {
    "clmr": Table(
        {
            r"backbone\.layer(\d+)_conv": lambda match: f"sequential.{int(match[1]) - 1}.0",
            r"backbone\.layer(\d+)_norm": lambda match: f"sequential.{int(match[1]) - 1}.1",
            "head": "fc",
        },
        # The linear classifier is a file of its own.
        rename=((r"^(model\.)?encoder\.", ""), (r"^0\.", "fc.")),
        # The head of the pre-training.
        constants=(r"(model\.)?projector\.",),
    )
}
