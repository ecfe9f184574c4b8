"""Checkpoints of CLMR (Spijkervet and Burgoyne 2021, Spijkervet/CLMR), state dicts of PyTorch."""

from music_zoo.hub.conversion.table import Table

TABLES = {
    "clmr": Table(
        {
            r"backbone\.layer(\d+)_conv": lambda match: f"sequential.{int(match[1]) - 1}.0",
            r"backbone\.layer(\d+)_norm": lambda match: f"sequential.{int(match[1]) - 1}.1",
            "head": "fc",
        },
        rename=((r"^(model\.)?encoder\.", ""),),
        # The head of the pre-training.
        constants=(r"(model\.)?projector\.",),
    )
}
