"""Front ends that several published models share, as the plain configs of `music_zoo.layers.FrontEnd`."""


def decibel_mel(sample_rate: int, n_fft: int, n_mels: int) -> dict:
    """The decibels of a mel spectrogram with torchaudio's defaults: HTK scale, reflected edges, no floor."""
    return {
        "sample_rate": sample_rate,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": n_fft, "hop_length": n_fft // 2, "pad_mode": "reflect"}},
            {
                "layer": "MelFilterBank",
                "config": {
                    "sample_rate": sample_rate,
                    "n_fft": n_fft,
                    "n_mels": n_mels,
                    "scale": "htk",
                    "norm": None,
                },
            },
            {"layer": "Decibels", "config": {"top_db": None}},
        ],
    }


def unit_mel(sample_rate: int) -> dict:
    """The 80 decibels below the loudest of a mel spectrogram as librosa makes it, scaled to 0 to 1."""
    return {
        "sample_rate": sample_rate,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": 2048, "hop_length": 512}},
            {"layer": "MelFilterBank", "config": {"sample_rate": sample_rate, "n_fft": 2048, "n_mels": 128}},
            {"layer": "Decibels", "config": {"ref": "max", "top_db": 80.0}},
            {"layer": "MinMaxNormalization"},
        ],
    }


def waveform(sample_rate: int) -> dict:
    """No preprocessing: the network sees the samples."""
    return {"sample_rate": sample_rate, "layers": []}
