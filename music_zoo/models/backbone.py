"""What every backbone promises, so that one classifier, one contract test and one file format serve all."""

import keras


class Backbone(keras.Model):
    """A functional network from the front end's output to a feature map.

    A subclass builds its graph in `__init__`, passes it to `super().__init__(inputs=..., outputs=...)` and
    returns every constructor argument from `get_config`; it takes no others, so that a config with an unknown
    setting is an error (`keras.Model` itself would ignore it). Its promises, checked by `tests/contracts.py`:

    - input `(batch, n_mels, frames)` (or `(batch, samples)` for waveform models), output
      `(batch, ..., channels)`: pooling over all axes between batch and channels gives the embedding;
    - layers have fixed names, so weight names do not depend on what was built before;
    - an example's output does not depend on the others in its batch (in inference).
    """

    #: Whether XLA pays on TensorFlow on a CPU. It does for 1-D convolutions; 2-D convolutions run
    #: 1.4 to 1.5 times as fast through oneDNN without it.
    xla_on_tensorflow = False

    #: Names of the last layer in which a class token, the first token, attends to steps of time, and of the
    #: addition that takes its output behind a shortcut. Past the addition no token sees another. None if
    #: there is no such layer. `music_zoo.explain` needs it.
    time_attention: tuple[str, str] | None = None

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> "Backbone":
        """Build from what `get_config` returned."""
        return cls(**config)
