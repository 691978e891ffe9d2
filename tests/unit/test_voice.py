"""Voice activity: the network as distributed, and what is put in place of its spectrum."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from service.runtime import Network
from service.voice import CONTEXT, FRAME, MODEL, STATE
from service.voice.spectrum import BASIS, fold
from tests.support.audio import speech_like

REST = np.zeros(STATE, np.float32)


def test_the_network_is_the_published_one() -> None:
    """It is silero-vad 6.2.3's file, unchanged."""
    expected = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() == expected


class TestFold:
    """`fold`."""

    @pytest.mark.parametrize("frames", [1, 2, 94, 2048])
    @pytest.mark.parametrize("gain", [1e-4, 1.0])
    def test_probabilities_and_states_are_the_published_networks(
        self, frames: int, gain: float
    ) -> None:
        """For quiet and loud clips of any length, but for rounding."""
        spoken = np.resize(speech_like(6), frames * (CONTEXT + FRAME))
        noise = np.random.default_rng(1).normal(0, 0.01, spoken.size)
        heard = ((spoken + noise) * gain).astype(np.float32).reshape(frames, -1)
        inputs = {"input": heard, "h": REST, "c": REST}
        expected, *states = Network(MODEL)(inputs)
        found, *found_states = Network(MODEL, rewrite=fold)(inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        for state, found_state in zip(states, found_states, strict=True):
            np.testing.assert_allclose(found_state, state, atol=1e-3)

    def test_nothing_is_left_of_the_long_way(self) -> None:
        """The convolution and what cut its first span off are gone."""
        import openvino

        network = openvino.Core().read_model(MODEL)
        fold(network)
        left = {node.get_friendly_name() for node in network.get_ordered_ops()}
        assert BASIS not in left
        assert not {name for name in left if name.startswith("/stft/Slice")}
