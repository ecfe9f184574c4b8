"""Losses of contrastive training on one device and on two, which JAX makes of one processor.

Run by test_devices.py with XLA_FLAGS=--xla_force_host_platform_device_count=2.
"""

import keras
import numpy as np
from small_trainers import losses_of_steps

for method, options in {"simclr": {}, "moco": {"groups": 2}}.items():
    keras.distribution.set_distribution(None)
    alone = losses_of_steps(method, steps=6, **options)
    devices = keras.distribution.list_devices()
    assert len(devices) == 2, devices
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    # Had each device only its own half of the negatives or the queue, losses would differ in the first digit.
    np.testing.assert_allclose(losses_of_steps(method, steps=6, **options), alone, rtol=0, atol=1e-5)
