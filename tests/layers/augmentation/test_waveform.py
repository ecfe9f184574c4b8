import functools
import json

import keras
import numpy as np
import pytest
import scipy.signal

from music_zoo.layers.augmentation import (
    CHAINS,
    Delay,
    HighLowPass,
    PitchShift,
    PolarityInversion,
    Reverb,
    WaveformGain,
    WhiteNoise,
    clmr,
)

pytestmark = pytest.mark.keras

RATE = 8000  # lowest that holds the cutoffs of the paper


def layers(seed=0, probability=1.0) -> dict:
    every = {
        "polarity": PolarityInversion(probability=probability, seed=seed),
        "noise": WhiteNoise(probability=probability, seed=seed),
        "gain": WaveformGain(probability=probability, seed=seed),
        "filter": HighLowPass(RATE, probability=probability, seed=seed),
        "delay": Delay(RATE, probability=probability, seed=seed),
        "pitch": PitchShift(RATE, probability=probability, seed=seed),
        "reverb": Reverb(RATE, probability=probability, seed=seed),
    }
    return every


NAMES = list(layers())


def music(batch=40, samples=1001, seed=0) -> np.ndarray:
    """Noise under an envelope and three tones: `(batch, samples)` float32 in -1..1."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / RATE
    tones = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6, (batch, 1))) for f in (220, 554.4, 1318.5))
    noise = rng.standard_normal((batch, samples)) * np.exp(-(t % 0.25) * 20)
    return (0.2 * tones + 0.05 * noise).astype("float32")


def sine(frequency, seconds=1.0, rate=RATE) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate).astype("float32")


def apply(layer, inputs, **parameters) -> np.ndarray:
    tensors = {name: keras.ops.convert_to_tensor(np.asarray(value)) for name, value in parameters.items()}
    changed = compiled_on_jax(*kind(layer))[0] if keras.config.backend() == "jax" else layer.apply
    return keras.ops.convert_to_numpy(changed(keras.ops.convert_to_tensor(inputs), **tensors))


def train(layer, inputs) -> np.ndarray:
    if keras.config.backend() != "jax":
        return keras.ops.convert_to_numpy(layer(inputs, training=True))
    state = layer.seed_generator.state
    outputs, (value,) = compiled_on_jax(*kind(layer))[1]([], [state.value], inputs)
    state.assign(value)
    return np.asarray(outputs)


def kind(layer) -> tuple[type, str]:
    config = layer.get_config()
    return type(layer), json.dumps({key: config[key] for key in config if key not in ("seed", "name")})


@functools.cache
def compiled_on_jax(layer_class, config):
    """`apply` and `call`, compiled once for layers that differ in their seed: eagerly it takes minutes."""
    import jax

    layer = layer_class(**json.loads(config))
    layer.build(None)
    return jax.jit(layer.apply), jax.jit(functools.partial(layer.stateless_call, training=True))


def drawn(layer, batch=4000, samples=2) -> dict[str, np.ndarray]:
    parameters = layer.draw(keras.ops.zeros((batch, samples)))
    return {name: keras.ops.convert_to_numpy(value) for name, value in parameters.items()}


def is_uniform(values, low, high) -> bool:
    """Within four standard errors, by mean and variance; all in range."""
    count, spread = len(values), (high - low) / np.sqrt(12)
    return (
        (low <= values.min())
        and (values.max() <= high)
        and abs(values.mean() - (low + high) / 2) < 4 * spread / np.sqrt(count)
        and abs(values.std() / spread - 1) < 4 / np.sqrt(count)
    )


# ---- what holds of all ----


@pytest.mark.parametrize("name", NAMES)
def test_off_is_the_identity(name):
    inputs = music()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layers()[name](inputs)), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_config_and_seed_decide_what_happens(name):
    inputs = music()
    layer = layers(seed=5, probability=0.5)[name]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    first = train(layer, inputs)
    np.testing.assert_array_equal(train(again, inputs), first)
    assert np.abs(train(layer, inputs) - first).max() > 1e-6  # the next batch
    assert np.abs(train(layers(seed=2, probability=0.5)[name], inputs) - first).max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_only_the_chosen_examples_change(name):
    inputs = music()
    changed = (train(layers(probability=0.5)[name], inputs) != inputs).any(axis=1)
    assert abs(changed.sum() - 20) < 4 * np.sqrt(40 / 4)


@pytest.mark.parametrize("name", NAMES)
def test_each_example_is_on_its_own(name):
    inputs = music()
    layer = layers(probability=0.5)[name]
    parameters = {key: keras.ops.convert_to_numpy(value) for key, value in layer.draw(inputs).items()}
    together = apply(layer, inputs, **parameters)
    others = np.roll(inputs, 7, axis=0)
    others[3] = inputs[3]
    swapped = {key: np.concatenate([value[:4], value[:3:-1]]) for key, value in parameters.items()}
    np.testing.assert_allclose(apply(layer, others, **swapped)[3], together[3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 1001), (3, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_any_length_is_kept_and_silence_stays_silence(name, shape):
    inputs = music(*shape)
    inputs[::2] = 0
    result = train(layers(probability=0.5)[name], inputs)
    assert result.shape == shape
    assert result.dtype == "float32"
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(result[::2], 0)


def test_the_chain_compiled_for_any_batch_size():
    inputs = keras.Input((3001,))
    changed = clmr(RATE, seed=0)(inputs)
    assert changed.shape == (None, 3001)
    model = keras.Model(inputs, keras.layers.Dense(1)(changed))
    model.compile("sgd", "mse")
    losses = model.fit(music(5, 3001), np.ones((5, 1)), batch_size=3, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_configs_hold_what_was_set():
    settings = {
        WhiteNoise: {"low": 0.1, "high": 0.2},
        WaveformGain: {"low": -3.0, "high": 3.0},
        HighLowPass: {"sample_rate": 16000, "low_pass": (1000.0, 2000.0), "high_pass": (50.0, 100.0)},
        Delay: {"sample_rate": 16000, "low": 10.0, "high": 31.0, "step": 10.0, "volume": 0.25},
        PitchShift: {"sample_rate": 16000, "cents": 100},
        Reverb: {"sample_rate": 16000},
    }
    for layer_class, arguments in settings.items():
        assert layer_class(**arguments).get_config().items() >= arguments.items()


def test_the_state_of_the_generator_is_saved(tmp_path):
    def model(seed):
        inputs = keras.Input((1001,))
        return keras.Model(inputs, WaveformGain(seed=seed)(inputs))

    def called(one):
        return keras.ops.convert_to_numpy(one(inputs, training=True))

    inputs = music()
    one, other = model(1), model(2)
    called(one)
    one.save_weights(tmp_path / "state.weights.h5")
    expected = called(one)
    other.load_weights(tmp_path / "state.weights.h5")
    np.testing.assert_array_equal(called(other), expected)


# ---- polarity, noise, gain ----


def test_polarity():
    inputs = music(2000, 10)
    np.testing.assert_array_equal(apply(PolarityInversion(), inputs), -inputs)
    inverted = train(PolarityInversion(seed=0), inputs)[:, 0] == -inputs[:, 0]
    assert abs(inverted.mean() - 0.8) < 4 * np.sqrt(0.16 / 2000)


def test_noise_is_a_share_of_the_standard_deviation():
    inputs = music(3, 40000) * [[1.0], [0.1], [1e-3]]
    layer = WhiteNoise(seed=0)
    noise = layer.draw(inputs)["noise"]
    share = np.array([0.01, 0.05, 0.5], "float32")
    added = apply(layer, inputs.astype("float32"), share=share, noise=noise) - inputs
    np.testing.assert_allclose(added.std(axis=1) / inputs.std(axis=1), share, rtol=0.02)
    assert np.abs(np.corrcoef(added) - np.eye(3)).max() < 0.025
    spectrum = np.abs(np.fft.rfft(added[2])) ** 2
    halves = spectrum[1:10000].mean(), spectrum[10000:].mean()
    assert abs(halves[0] / halves[1] - 1) < 0.06  # white
    assert is_uniform(drawn(WhiteNoise(seed=0))["share"], 1e-4, 1e-2)


def test_gain_in_decibels():
    inputs = music(3, 100)
    result = apply(WaveformGain(), inputs, decibels=np.array([-20, 0, 6.0205999], "float32"))
    np.testing.assert_allclose(result, inputs * [[0.1], [1.0], [2.0]], rtol=1e-6)
    assert is_uniform(drawn(WaveformGain(seed=0))["decibels"], -20, -1)


# ---- filters ----


@pytest.mark.parametrize("cutoff", [200.0, 731.5, 2200.0, 3999.0])
@pytest.mark.parametrize("samples", [300, 4001])
def test_the_filters_are_windowed_sincs(cutoff, samples):
    inputs = music(1, samples)
    reach = int(4 * RATE / cutoff)
    # A Hann window of scipy ends in zeros, as that of julius.
    kernel = scipy.signal.firwin(2 * reach + 1, cutoff, window="hann", fs=RATE)
    low = np.convolve(inputs[0], kernel)[reach : reach + samples]
    for high_pass, expected in ((False, low), (True, inputs[0] - low)):
        result = apply(HighLowPass(RATE), inputs, cutoff=np.float32([cutoff]), high_pass=[high_pass])
        np.testing.assert_allclose(result[0], expected, rtol=0, atol=2e-5)


def test_pass_and_stop_bands():
    tones = [100, 300, 500, 700, 900, 1500, 3000]
    inputs = np.stack([sine(f) for f in tones])

    def gains(high_pass):
        parameters = {"cutoff": np.full(len(tones), 500.0, "float32"), "high_pass": [high_pass] * len(tones)}
        inner = apply(HighLowPass(RATE), inputs, **parameters)[:, 1000:-1000]
        return inner.std(axis=1) * np.sqrt(2)

    np.testing.assert_allclose(gains(False), [1, 1, 0.5, 0, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose(gains(True), [0, 0, 0.5, 1, 1, 1, 1], atol=0.01)


def test_cutoffs_are_drawn_evenly_for_either_filter():
    parameters = drawn(HighLowPass(RATE, seed=0))
    high = parameters["high_pass"]
    assert abs(high.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(high))
    assert is_uniform(parameters["cutoff"][high], 200, 1200)
    assert is_uniform(parameters["cutoff"][~high], 2200, 4000)


# ---- delay ----


def test_an_impulse_comes_back_once_at_half_the_volume():
    inputs = np.zeros((3, 4000), "float32")
    inputs[:, 7] = 1
    result = apply(Delay(RATE), inputs, delay=np.int32([1600, 2400, 3600]))
    expected = np.zeros_like(inputs)
    expected[:, 7] = 0.5
    expected[[0, 1, 2], [1607, 2407, 3607]] = 0.25
    np.testing.assert_array_equal(result, expected)


def test_delays_are_those_of_the_paper():
    delays, counts = np.unique(drawn(Delay(RATE, seed=0), 6000)["delay"], return_counts=True)
    np.testing.assert_array_equal(delays, np.arange(200, 500, 50) * 8)
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(6000 * 5 / 36)


def test_a_delay_longer_than_the_waveform_leaves_half_of_it():
    inputs = music(2, 1000)
    np.testing.assert_allclose(
        apply(Delay(RATE), inputs, delay=np.int32([1600, 3600])), inputs / 2, rtol=1e-6
    )


# ---- pitch ----


def peak(signal, rate) -> float:
    """Frequency of the highest peak, with a parabola through its logarithm, in Hz."""
    size = 8 * len(signal)
    spectrum = np.log(np.abs(np.fft.rfft(signal * np.hanning(len(signal)), size)) + 1e-12)
    top = int(spectrum.argmax())
    a, b, c = spectrum[top - 1 : top + 2]
    return (top + (a - c) / (2 * (a - 2 * b + c))) * rate / size


@pytest.mark.parametrize("rate", [8000, 22050])
def test_a_sine_is_shifted_by_the_cents(rate):
    tones = [110.0, 440.0, 987.77, 1760.0, 2637.02]
    cents = np.array([-700, -333, -100, -1, 50, 250, 700])
    pairs = [(f, c) for f in tones for c in cents if f * 2 ** (c / 1200) < 0.45 * rate]
    inputs = np.stack([sine(f, 1.5, rate) for f, _ in pairs])
    result = apply(PitchShift(rate), inputs, cents=np.float32([c for _, c in pairs]))
    for (frequency, shift), signal in zip(pairs, result, strict=True):
        inner = signal[rate // 10 : -rate // 10]
        error = 1200 * np.log2(peak(inner, rate) / (frequency * 2 ** (shift / 1200)))
        assert abs(error) < 3, (frequency, shift, error)
        # One tone, not torn to pieces: nearly all the energy within 20 Hz of the peak.
        spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)))) ** 2
        at = np.fft.rfftfreq(len(inner), 1 / rate)
        near = np.abs(at - frequency * 2 ** (shift / 1200)) < 20
        assert spectrum[near].sum() > 0.97 * spectrum.sum(), (frequency, shift)
        level = np.sinc(frequency / (2 * rate)) ** 2  # linear interpolation at twice the rate
        assert abs(inner.std() * np.sqrt(2) / level - 1) < 0.03, (frequency, shift)


def test_no_shift_is_the_identity():
    inputs = music()
    np.testing.assert_allclose(
        apply(PitchShift(RATE), inputs, cents=np.zeros(40, "float32")), inputs, atol=1e-4
    )


def test_the_tempo_stays():
    t = np.arange(16000) / RATE
    on = t % 0.5 < 0.25
    cents = np.float32([-700, 700])
    result = apply(PitchShift(RATE), np.stack([sine(440.0, 2.0) * on] * 2), cents=cents)
    inside = np.abs(t % 0.25 - 0.125) < 0.075  # the ends of the tones may move by the search and a cross-fade
    assert np.abs(result[:, ~on & inside]).max() < 1e-3
    for signal in result:
        for start in np.arange(0.05, 2, 0.5):
            level = signal[int(start * RATE) : int((start + 0.15) * RATE)].std() * np.sqrt(2)
            assert abs(level - 1) < 0.05


def test_nothing_is_aliased():
    inputs = sine(3500.0)[None]
    result = apply(PitchShift(RATE), inputs, cents=np.float32([700.0]))
    assert result[0, 500:-500].std() < 0.01


def test_a_long_signal_is_as_exact_at_its_end():
    inputs = sine(1000.0, 40.0)[None]
    result = apply(PitchShift(RATE), inputs, cents=np.float32([300.0]))
    assert abs(1200 * np.log2(peak(result[0, -16000:-1000], RATE) / (1000 * 2**0.25))) < 2


def test_cents_are_whole_and_even():
    cents = drawn(PitchShift(RATE, seed=0))["cents"]
    assert (cents == np.round(cents)).all()
    assert is_uniform(cents, -700, 700)


# ---- reverb ----


def freeverb(signal, rate, reverberance, damping, room_size) -> np.ndarray:
    """The recursion of Freeverb, sample by sample, with the scales of sox; the mean of its two channels."""
    feedback = 1 - np.exp(np.log(0.7) + reverberance / 100 * np.log(0.02 / 0.7))
    damp = damping / 100 * 0.3 + 0.2
    scale = room_size / 100 * 0.9 + 0.1
    wet = np.zeros(len(signal))
    for channel in (0, 1):
        total = np.zeros(len(signal))
        for number, length in enumerate((1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)):
            length += 12 * channel * (-1) ** number
            line, store = [0.0] * int(scale * rate / 44100 * length + 0.5), 0.0
            for n, x in enumerate(signal):
                out = line[n % len(line)]
                store = out * (1 - damp) + store * damp
                line[n % len(line)] = x + store * feedback
                total[n] += out
        for number, length in enumerate((225, 341, 441, 556)):
            length += 12 * channel * (-1) ** number
            line = [0.0] * int(rate / 44100 * length + 0.5)
            for n, x in enumerate(total):
                out = line[n % len(line)]
                line[n % len(line)] = x + 0.5 * out
                total[n] = out - x
        wet += 0.015 * total / 2
    return signal + wet


@pytest.mark.parametrize("samples", [1500, 8000])
def test_reverb_is_freeverb(samples):
    settings = [(0, 0, 0), (50, 50, 50), (99, 0, 99), (99, 99, 10), (20, 70, 99)]
    inputs = np.stack([music(1, samples, seed=1)[0]] * len(settings))
    inputs[2:, :] = 0
    inputs[2:, 5] = 1
    columns = dict(zip(("reverberance", "damping", "room_size"), np.int32(settings).T, strict=True))
    result = apply(Reverb(RATE), inputs, **columns)
    for row, setting in enumerate(settings):
        expected = freeverb(inputs[row].astype("float64"), RATE, *setting)
        wet = expected - inputs[row]
        np.testing.assert_allclose(result[row] - inputs[row], wet, rtol=0, atol=2e-3 * np.abs(wet).max())


def test_the_reverberation_decays_slower_in_a_livelier_room():
    click = np.zeros((2, 16000), "float32")
    click[:, 0] = 1
    result = apply(Reverb(RATE), click, reverberance=[60, 90], damping=[50, 50], room_size=[80, 80])
    energy = (result[:, 1:-4].astype("float64").reshape(2, -1, 3199) ** 2).sum(axis=2)
    assert (np.diff(energy, axis=1) < 0).all()
    assert energy[0, -1] / energy[0, 0] < 0.01 * energy[1, -1] / energy[1, 0]


def test_reverb_draws_all_settings():
    for values in drawn(Reverb(RATE, seed=0), 6000).values():
        assert len(np.unique(values)) == 100
        assert is_uniform(values, 0, 99)


# ---- the chain ----


def test_clmr_has_the_probabilities_of_the_paper():
    chain = clmr(22050, seed=3)
    assert [(type(layer), layer.probability) for layer in chain.layers] == [
        (PolarityInversion, 0.8),
        (WhiteNoise, 0.01),
        (WaveformGain, 0.3),
        (HighLowPass, 0.8),
        (Delay, 0.3),
        (PitchShift, 0.6),
        (Reverb, 0.6),
    ]
    assert len({layer.seed for layer in chain.layers}) == 7
    assert CHAINS["clmr"] is clmr


# ---- bad settings ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WhiteNoise(0.2, 0.1), "0 <= low <= high, got low=0.2"),
        (lambda: WhiteNoise(-1.0, 0.1), "got low=-1"),
        (lambda: WaveformGain(0.0, -1.0), "low <= high in dB"),
        (lambda: HighLowPass(7000), "half the sample rate of 7000 Hz, got .2200.0, 4000.0"),
        (lambda: HighLowPass(16000, high_pass=(300.0, 200.0)), "`high_pass` must be"),
        (lambda: HighLowPass(16000, low_pass=(0.0, 200.0)), "`low_pass` must be"),
        (lambda: Delay(0), "`sample_rate` must be above 0"),
        (lambda: Delay(8000, 500, 500), "got low=500, high=500"),
        (lambda: Delay(8000, step=0), "step > 0"),
        (lambda: PitchShift(8000, 0), "whole number from 1 to 1200, got 0"),
        (lambda: PitchShift(8000, 99.5), "got 99.5"),
        (lambda: PitchShift(100), "at least 1000 Hz, got 100"),
        (lambda: Reverb(0), "at least 1000 Hz, got 0"),
        (lambda: Reverb(8000, probability=1.5), "`probability` lies between 0 and 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["filter", "pitch", "reverb"])
def test_a_length_must_be_known(name):
    with pytest.raises(ValueError, match=r"known length, got shape \(2, None\).*RandomCrop"):
        layers()[name].apply(keras.KerasTensor((2, None)), **layers()[name].draw(keras.ops.zeros((2, 9))))
