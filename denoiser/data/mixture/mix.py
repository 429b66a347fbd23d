"""The physics of a mixture: speech in a room, through a microphone, and noises, at a signal-to-noise ratio.

Random numbers are drawn before (:mod:`denoiser.data.mixture.draw`), on the CPU: these are pure functions of tensors,
which give the same mixture on every device, up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from denoiser.data.mixture.rooms import KEPT
from denoiser.errors import ConfigError

FRAME = 50  # frames a second in which sound is judged active
ACTIVE = 1e-4  # of the loudest frame's power: a frame within 40 dB of it is active
FADE = 0.01  # s of cross-fade where a noise shorter than the crop begins again
PEAK = 0.99  # of full scale
PEOPLE = (3, 8)  # voices of a babble
KERNEL = 0.064  # s of a filter's response; a high-pass at 50 Hz has decayed by 120 dB

Mixture = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """What mixtures are made of. Shares are probabilities, 0 to 1.

    Args:
        snr: dB, from and to, drawn uniformly: of the speech over the noise, both while active (:func:`mix`).
        noises: at most so many at once, each further one up to 10 dB below the first.
        babble: share of noises that are 3 to 8 other speakers of the corpus at once.
        generated: share of noises that are made, see :mod:`denoiser.data.synthesis.generated`: rumble, hum,
            machines, music ...
        highpass: Hz below which the speech has nothing: no voice is there, and what recordings of speech have, the
            rumble of their rooms, no network could tell from noise. 0 for speech as it is.
        filtered: share of mixtures whose speech and noise each pass a random filter (:func:`colour`).
        narrow: share that came through a narrow channel, a telephone say (:func:`channel`).
        speechless: share in which nobody speaks.
        noiseless: share of training's in which the noise is 80 dB below the speech: what is clean is to stay so.
        level: dBFS, from and to, of active speech. Mixtures beyond full scale are scaled down as a whole.
        reverberant: share in a room, where there are rooms.
        target: what the clean target keeps of a room: ``direct``, ``early`` or ``all`` of its sound.
    """

    snr: tuple[float, float] = (-5.0, 20.0)
    noises: int = 2
    babble: float = 0.1
    generated: float = 0.1
    highpass: float = 0.0
    filtered: float = 0.5
    narrow: float = 0.1
    speechless: float = 0.02
    noiseless: float = 0.03
    level: tuple[float, float] = (-40.0, -10.0)
    reverberant: float = 0.5
    target: str = "early"

    def __post_init__(self) -> None:
        for name in ("snr", "level"):
            span = getattr(self, name)
            if not _is_span(span):
                raise ConfigError(f"data.mix.{name}={span}: expected two numbers in dB, as in [-5,20]")
            object.__setattr__(self, name, tuple(span))
        for name in ("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant"):
            share = getattr(self, name)
            if not _is_number(share) or not 0 <= share <= 1:
                raise ConfigError(f"data.mix.{name}={share}: expected a share, 0 to 1")
        if self.babble + self.generated > 1:
            raise ConfigError(
                f"data.mix: babble={self.babble} and generated={self.generated} are more than 1 together; "
                "the rest are recorded noises"
            )
        if not _is_number(self.highpass) or not 0 <= self.highpass <= 300:
            raise ConfigError(f"data.mix.highpass={self.highpass}: expected 0 to 300 Hz")
        if not isinstance(self.noises, int) or self.noises < 1:
            raise ConfigError(f"data.mix.noises={self.noises}: expected 1 or more")
        if self.target not in KEPT:
            raise ConfigError(f"data.mix.target={self.target}: expected {', '.join(KEPT)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_span(span: object) -> bool:
    return isinstance(span, list | tuple) and len(span) == 2 and all(map(_is_number, span)) and span[0] <= span[1]


def mix(batch: Mixture, length: int, sample_rate: int, responses: Tensor | None = None) -> Mixture:
    """Make B mixtures of ``length`` N samples from R crops: ``{"noisy", "clean", "noise": [B, N], "level": [B, 1]}``.

    ``noisy`` is ``clean + noise`` to the last bit. ``clean`` is the speech, of a room what the target keeps; ``noise``
    is all else, the rest of the room's sound included. The signal-to-noise ratio is that of ``clean`` over the noises
    alone, each a mean power over active frames, those of 20 ms within 40 dB of the loudest: of the noises those in the
    crop, of the speech those of the whole utterance. So a crop of little speech is as noisy as its utterance is, not
    less. ``level`` is the RMS that the whole utterance would have in this noise.

    Args:
        batch: float32 ``crops`` ``[R, M]``, of which the last N samples become the mixture. The first B are speech,
            to be heard from sample ``first`` until before ``last``; ``power`` and ``active`` are the mean power of
            its whole utterance, of all of it and of its active frames. Of the R - B noises: ``owner``, the mixture;
            ``gain``, dB; ``short``, those that begin again after ``period`` samples, begun ``shift`` samples in. Of
            the mixture: ``snr``, dB; ``loudness``, dBFS of active speech; ``speechless``, 0 or 1;
            ``highpass``, Hz, of the speech; ``speech_filter`` and ``noise_filter`` ``[B, 4]`` of :func:`colour`;
            ``band`` ``[B, 2]`` of :func:`channel`; ``room``, a number or -1.
        responses: ``[rooms, 2, H]``: what is heard in a room, and what a target keeps of it; H at most M - N.
    """
    crops, count = batch["crops"], len(batch["snr"])
    size = crops.shape[1]
    time = torch.arange(size, device=crops.device)
    # A crop reaches back before the mixture: filters and rooms still sound of what was said then, and what a cyclic
    # convolution wraps around from the end lies there, to be cut off.
    speech = crops[:count] * ((time >= batch["first"][:, None]) & (time < batch["last"][:, None]))
    dry = _rms(speech[:, -length:])
    band = channel(batch["band"], sample_rate)
    voice = passed_above(batch["highpass"][:, None], 4, _frequencies(sample_rate, crops.device))
    spectrum = torch.fft.rfft(speech) * _spectrum(voice * band * colour(batch["speech_filter"], sample_rate), size)
    if responses is None:
        heard = clean = torch.fft.irfft(spectrum, size)[:, -length:]
    else:
        inside = (batch["room"] >= 0)[:, None, None]
        room = torch.where(inside, torch.fft.rfft(responses[batch["room"].clamp(min=0)], size), 1)
        heard, clean = torch.fft.irfft(spectrum[:, None] * room, size)[..., -length:].unbind(1)
    loudness = 10 ** (batch["loudness"][:, None] / 20)
    gain = loudness / (batch["active"].sqrt()[:, None] * _ratio(_rms(clean), dry)).clamp(min=1e-12)
    power = batch["power"][:, None] * (gain * _ratio(_rms(heard), dry)).square()
    gain = gain * (1 - batch["speechless"][:, None])

    # Noises are made equally loud while active, then their sum as loud as the ratio asks for.
    noises = crops[count:, -length:].clone()
    if len(batch["short"]):
        fade = round(FADE * sample_rate)
        again = repeat(crops[count:][batch["short"]], batch["period"], batch["shift"], fade)
        noises[batch["short"]] = again[:, -length:]
    noises *= _ratio(10 ** (batch["gain"] / 20), active_power(noises, sample_rate).sqrt(), silent=0)[:, None]
    noise = torch.zeros(count, length, device=crops.device).index_add_(0, batch["owner"], noises)
    response = _spectrum(band * colour(batch["noise_filter"], sample_rate), size)
    noise = torch.fft.irfft(torch.fft.rfft(noise, size) * response, size)[:, :length]
    wanted = loudness * 10 ** (-batch["snr"][:, None] / 20)
    noise = noise * _ratio(wanted, active_power(noise, sample_rate).sqrt()[:, None], silent=0)
    level = (power + noise.square().mean(1, keepdim=True)).sqrt()

    clean, noise = gain * clean, gain * (heard - clean) + noise
    peak = torch.maximum(clean.abs(), (clean + noise).abs()).amax(1, keepdim=True)
    scale = PEAK / peak.clamp(min=PEAK)
    clean, noise = scale * clean, scale * noise
    return {"noisy": clean + noise, "clean": clean, "noise": noise, "level": scale * level}


def active_power(x: Tensor, sample_rate: int) -> Tensor:
    """Mean power of the active frames, of 20 ms, within 40 dB of the loudest: ``[..., N]`` → ``[...]``."""
    size, over = sample_rate // FRAME, -x.shape[-1] % (sample_rate // FRAME)
    energy = torch.nn.functional.pad(x, (0, over)).unflatten(-1, (-1, size)).square().sum(-1)
    counts = torch.full(energy.shape[-1:], size, dtype=x.dtype, device=x.device)
    counts[-1] -= over  # the last frame is what is left
    power = energy / counts
    active = power >= ACTIVE * power.amax(-1, keepdim=True)
    return (energy * active).sum(-1) / (counts * active).sum(-1)


def repeat(x: Tensor, period: Tensor, shift: Tensor, fade: int) -> Tensor:
    """Sounds ``[R, N]`` that end after ``period`` ``[R]`` samples, again and again, begun ``shift`` samples in.

    The end of each turn is cross-faded over ``fade`` samples into the next, at equal power, as of sounds
    that have nothing in common.
    """
    overlap = (period // 2).clamp(max=fade)[:, None]
    turn = period[:, None] - overlap
    place = (torch.arange(x.shape[1], device=x.device) + shift[:, None]) % turn
    angle = ((place + 0.5) / overlap.clamp(min=1)).clamp(max=1) * (math.pi / 2)
    last = (place + turn).clamp(max=x.shape[1] - 1)
    return x.gather(1, place) * angle.sin() + x.gather(1, last) * angle.cos()


def colour(filters: Tensor, sample_rate: int) -> Tensor:
    """Second-order filters ``[B, 4]`` (b1, b2, a1, a2) as responses of :data:`KERNEL` seconds, complex ``[B, F]``.

    H(z) = (1 + b1 z⁻¹ + b2 z⁻²) / (1 + a1 z⁻¹ + a2 z⁻²), drawn within ±3/8: the differences between microphones and
    between places, as Valin (2018, "A hybrid DSP/deep learning approach to real-time full-band speech enhancement")
    trains RNNoise with. They tilt and bend a spectrum, mostly within ±6 dB. All zero is no filter.
    """
    z = torch.exp(2j * math.pi * _frequencies(sample_rate, filters.device) / sample_rate)
    b1, b2, a1, a2 = filters[..., None].unbind(-2)
    return (1 + b1 / z + b2 / z**2) / (1 + a1 / z + a2 / z**2)


def channel(edges: Tensor, sample_rate: int) -> Tensor:
    """Channels that pass ``[B, 2]`` (from and to Hz) as responses of :data:`KERNEL` seconds, complex ``[B, F]``.

    A Butterworth high-pass of second order and a low-pass of eighth, which speech and noise both pass, as through a
    telephone (300 to 3400 Hz): what is missing in the noisy is missing in the target.
    """
    f = _frequencies(sample_rate, edges.device).clamp(min=1)  # Hz: an open channel passes an offset too
    low, high = edges[..., None].unbind(-2)
    passed, high = passed_above(low, 2, f), 1j * f / high
    for k in (1, 3, 5, 7):
        passed = passed / (high**2 + 2 * math.sin(k * math.pi / 16) * high + 1)
    return passed


def passed_above(edges: Tensor, order: int, f: Tensor) -> Tensor:
    """A Butterworth high-pass of even ``order`` from ``edges`` ``[B, 1]`` Hz on, at ``f`` ``[F]`` Hz: ``[B, F]``."""
    s = 1j * f.clamp(min=1) / edges.clamp(min=1e-6)
    parts = [s**2 / (s**2 + 2 * math.sin(k * math.pi / (2 * order)) * s + 1) for k in range(1, order, 2)]
    return torch.stack(parts).prod(0)


def _frequencies(sample_rate: int, device: torch.device) -> Tensor:
    return torch.fft.rfftfreq(round(KERNEL * sample_rate), 1 / sample_rate, device=device)


def _spectrum(responses: Tensor, size: int) -> Tensor:
    """Short responses ``[B, F]`` at the bins of ``size`` samples."""
    return torch.fft.rfft(torch.fft.irfft(responses), size)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).sqrt()


def _ratio(a: Tensor, b: Tensor, silent: float = 1) -> Tensor:
    """a / b, and ``silent`` where b is 0."""
    return torch.where(b > 0, a / b.clamp(min=1e-20), silent)
