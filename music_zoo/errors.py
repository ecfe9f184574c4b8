"""The errors that music_zoo raises on purpose; each message says what was expected, what came, what to do."""


class MusicZooError(Exception):
    """Base of every error that music_zoo raises on purpose."""


class AudioError(MusicZooError, ValueError):
    """Audio that cannot be used: unreadable, empty, truncated, not finite, of the wrong shape."""


class PresetError(MusicZooError):
    """A preset whose files are missing, altered, incomplete or inconsistent."""


class ManifestError(PresetError):
    """A weights manifest that is not valid."""


class UnknownPresetError(MusicZooError, LookupError):
    """A name that stands for no preset, folder or Hub repository."""


class DatasetError(MusicZooError):
    """A data set folder that is incomplete or not of the expected layout."""


class BackendMissingError(MusicZooError, ImportError):
    """Neither TensorFlow, JAX nor PyTorch is installed."""


class PretrainingError(MusicZooError, ValueError):
    """A pretraining that cannot run: batches that its loss cannot use, a loss that is not finite."""


class RecipeError(MusicZooError, ValueError):
    """A recipe that is not valid, or that cannot be followed."""


class ExportError(MusicZooError):
    """A model that could not be written for another runtime, or a file of one that cannot be used."""
