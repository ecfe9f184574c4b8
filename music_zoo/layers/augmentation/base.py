"""What every augmentation has in common: parameters are drawn, then applied, so that both can be tested."""

from typing import Any

import keras
from keras import ops


class Augmentation(keras.layers.Layer):
    """A random change of each example of a batch, while training; at other times the identity.

    A subclass says in `draw` which random numbers a batch takes, and in `apply` what they do. All happens in
    the graph, in float32, on every backend. The state of the random generator is one of the layer's
    variables: it is saved with a model's weights, and a resumed run draws what an uninterrupted one draws.

    Args:
        probability: That an example is changed at all, from 0 to 1.
        seed: Of the random generator; None: a different one each time.
        name: Name of the layer.

    Raises:
        ValueError: A probability out of range.
    """

    def __init__(self, *, probability: float = 1.0, seed: int | None = None, name: str | None = None):
        super().__init__(name=name, dtype="float32")
        if not 0 <= probability <= 1:
            raise ValueError(f"{type(self).__name__}: `probability` lies between 0 and 1, got {probability}.")
        self.probability = probability
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the parameters of one batch by name, each `(batch, ...)`."""
        raise NotImplementedError

    def apply(self, inputs: Any, **parameters: Any) -> Any:
        """Return what the parameters make of the inputs. Deterministic."""
        raise NotImplementedError

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Change each example with its probability if `training`, else none."""
        if not training:
            return self.without(inputs)
        changed = self.apply(inputs, **self.draw(inputs))
        if self.probability == 1:
            return changed
        chosen = self.uniform(inputs) < self.probability
        return ops.where(_like(chosen, inputs), changed, inputs)

    def without(self, inputs: Any) -> Any:
        """Return what stands in place of the augmentation where it is off: the inputs, if not overridden."""
        return inputs

    def uniform(
        self, inputs: Any, low: float = 0.0, high: float = 1.0, *, shape: tuple[int, ...] = ()
    ) -> Any:
        """Draw `(batch, *shape)` numbers from `low` to `high`."""
        return keras.random.uniform(
            (ops.shape(inputs)[0], *shape), low, high, dtype="float32", seed=self.seed_generator
        )

    def normal(self, inputs: Any, stddev: float, *, shape: tuple[int, ...] = ()) -> Any:
        """Draw `(batch, *shape)` numbers around 0."""
        return keras.random.normal(
            (ops.shape(inputs)[0], *shape), 0.0, stddev, dtype="float32", seed=self.seed_generator
        )

    def integers(self, inputs: Any, high: Any, *, shape: tuple[int, ...] = ()) -> Any:
        """Draw `(batch, *shape)` whole numbers from 0 to `high`, itself a number or such a tensor."""
        high = ops.cast(high, "float32")
        drawn = ops.floor(self.uniform(inputs, shape=shape) * (high + 1))
        return ops.cast(ops.minimum(drawn, high), "int32")  # a product just below `high + 1` rounds to it

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Save the state of the random generator, which Keras leaves out."""
        store["seed_generator_state"] = self.seed_generator.state

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Restore the state of the random generator."""
        self.seed_generator.state.assign(store["seed_generator_state"])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; subclasses add theirs."""
        return {"probability": self.probability, "seed": self.seed, "name": self.name}


def _like(parameter: Any, inputs: Any) -> Any:
    """`(batch,)` to a shape that broadcasts over all axes of `inputs` behind the first."""
    return ops.reshape(parameter, (-1,) + (1,) * (len(inputs.shape) - 1))


def known_samples(layer: Augmentation, inputs: Any) -> int:
    """Return the length of the waveforms, which Fourier transforms must know."""
    samples = inputs.shape[1]
    if samples is None:
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) needs waveforms of known length, got shape "
            f"{tuple(inputs.shape)}; cut them to one length first, for example with `RandomCrop`."
        )
    return samples
