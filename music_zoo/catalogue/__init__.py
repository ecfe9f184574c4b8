"""Catalogues: labels and embeddings of any number of files as Parquet, on Ray; needs the extra `ray`.

Data flows `sources` -> `stages` -> `store`; `run` is the whole of it. Keras is imported by Ray's actors only.
"""

from music_zoo.catalogue.run import Written, write_catalogue
from music_zoo.catalogue.sources import read_sources

__all__ = ["Written", "read_sources", "write_catalogue"]
