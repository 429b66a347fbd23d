"""Enhancers of other packages on PyPI: float32 ``[N]`` at 16 kHz → the same. Nothing here loads torch."""

from collections.abc import Callable

import numpy as np

RATE = 16_000
System = Callable[[np.ndarray], np.ndarray]


def noisereduce(stationary: bool) -> System:
    from noisereduce import reduce_noise

    return lambda noisy: reduce_noise(y=noisy, sr=RATE, stationary=stationary)


def rnnoise() -> System:
    import soxr  # comes with it
    from pyrnnoise.rnnoise import FRAME_SIZE, create, destroy, process_mono_frame

    def run(noisy: np.ndarray) -> np.ndarray:
        raised = soxr.resample(noisy, RATE, 48_000)
        state = create()
        samples = (raised.clip(-1, 1) * 32767).astype(np.int16)
        frames = [process_mono_frame(state, samples[i : i + FRAME_SIZE])[0] for i in range(0, len(samples), FRAME_SIZE)]
        destroy(state)
        return soxr.resample(np.concatenate(frames).astype(np.float32) / 32768, 48_000, RATE)

    return run


def webrtc() -> System:
    from webrtc_noise_gain import AudioProcessor

    def run(noisy: np.ndarray) -> np.ndarray:
        processor, size = AudioProcessor(0, 4), RATE // 100  # no gain; the strongest suppression
        samples = (np.pad(noisy, (0, -len(noisy) % size)).clip(-1, 1) * 32767).astype(np.int16)
        frames = [processor.Process10ms(samples[i : i + size].tobytes()).audio for i in range(0, len(samples), size)]
        return np.frombuffer(b"".join(frames), np.int16).astype(np.float32) / 32768

    return run


def log_mmse() -> System:
    before = np.geterr()
    from logmmse import logmmse

    np.seterr(**before)  # it makes every underflow of the process an error
    return lambda noisy: logmmse(noisy, RATE).astype(np.float32)


PEERS: dict[str, tuple[str, Callable[[], System]]] = {
    "noisereduce, stationary": ("noisereduce", lambda: noisereduce(True)),
    "noisereduce, non-stationary": ("noisereduce", lambda: noisereduce(False)),
    "RNNoise": ("pyrnnoise", rnnoise),
    "WebRTC": ("webrtc-noise-gain", webrtc),
    "log-MMSE": ("logmmse", log_mmse),
}
