"""The baseline of the MTG-Jamendo data set (MTG/mtg-jamendo-dataset), a state dict of PyTorch."""

from music_zoo.hub.conversion.table import Table

TABLES = {
    "fcn-mtg": Table(
        {
            r"backbone\.input_norm": "bn_init",
            r"backbone\.layer(\d)_conv": r"conv_\1",
            r"backbone\.layer(\d)_norm": r"bn_\1",
            "head": "dense",
        }
    )
}
