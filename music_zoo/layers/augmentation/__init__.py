"""Random changes of waveforms and spectrograms that leave the music recognisable, as Keras layers."""
