"""What the classifier and its views share: how a network for a task is compiled."""

import keras

#: The tasks, each with the activation that turns logits into probabilities.
TASKS = {"single_label": "softmax", "multi_label": "sigmoid"}


class TaskModel(keras.Model):
    """A functional model whose `compile` knows the task's loss and metrics and when XLA pays."""

    def __init__(self, inputs, outputs, *, task: str, xla_on_tensorflow: bool, name: str):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self.task = task
        # JAX always compiles; on PyTorch compilation of these models fails or does not pay.
        backend = keras.config.backend()
        self._xla = backend == "jax" or (backend == "tensorflow" and xla_on_tensorflow)
        self.jit_compile = self._xla

    def compile(self, optimizer="adam", loss=None, *, metrics=None, jit_compile=None, **kwargs) -> None:
        """Configure training, with the task's usual loss and metrics where none are given.

        Single-label: sparse categorical cross-entropy (targets are class indices) and accuracy. Multi-label:
        binary cross-entropy and macro area under the ROC curve. Both take the probabilities that the model
        returns.
        """
        if loss is None:
            single = self.task == "single_label"
            loss = "sparse_categorical_crossentropy" if single else "binary_crossentropy"
            if metrics is None:
                metrics = ["accuracy"] if single else [keras.metrics.AUC(multi_label=True, name="roc_auc")]
        jit_compile = self._xla if jit_compile is None else jit_compile
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config: dict) -> None:
        """Compile as before saving, but for XLA: that is for the backend of today to decide."""
        self.compile(**keras.saving.deserialize_keras_object(config) | {"jit_compile": None})
        self.optimizer.build(self.trainable_variables)
