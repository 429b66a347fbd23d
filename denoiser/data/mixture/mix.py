"""Mixing of speech and noises by pure functions of tensors; :mod:`denoiser.data.mixture.draw` draws all numbers."""

import math
from pathlib import PurePosixPath

import torch
from torch import Tensor
from torch.utils.data import Dataset

from denoiser.data.activity import active_power, amplitude
from denoiser.data.crops import Batch, evenly
from denoiser.data.mixture import responses
from denoiser.data.mixture.draw import Mixtures
from denoiser.data.store import to_float
from denoiser.spectral import Spectral

FADE = 0.01  # s of cross-fade where a noise shorter than the crop begins again
PEAK = 0.99  # of full scale


class FixedMixtures(Dataset[Batch]):
    """Whole utterances in noise, the same in every epoch: at most ``limit`` of the mixtures, evenly spaced.

    ``names`` are those of the mixtures, in order; two may share one. ``facts`` are, by name, the folder or kind of the
    first and loudest noise, and the SNR to the nearest 5 dB.
    """

    def __init__(self, mixtures: Mixtures, rooms: Tensor | None, limit: int | None = None) -> None:
        self.mixtures, self.rooms = mixtures, rooms
        self.draws = [mixtures.draw(0, index) for index in evenly(len(mixtures), limit)]
        self.names: list[str] = []
        self.facts: dict[str, dict[str, str | float]] = {}
        for draw in self.draws:
            kinds = [PurePosixPath(kind) for kind in draw.kinds]
            noises = "_and_".join(kind.stem for kind in kinds)
            name = f"{mixtures.speech.name(draw.segment)}_in_{noises}_{draw.snr:.0f}dB"
            self.names.append(name)
            noise_type = kinds[0].parent.name or kinds[0].stem
            self.facts[name] = {"noise_type": noise_type, "snr_db": float(5 * round(draw.snr / 5))}

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> Batch:
        draw = self.draws[index]
        batch = self.mixtures.batch([draw])
        mixed = mix(batch, draw.length, self.mixtures.sample_rate, self.rooms)
        item = {key: mixed[key][0] for key in ("noisy", "clean", "bandwidth")}
        item["bandwidth"] = item["bandwidth"].amin()
        return {**item, "level": Spectral.level(item["noisy"]), "name": self.names[index], "index": index}


def mix(batch: Batch, length: int, sample_rate: int, rooms: Tensor | None = None) -> Batch:
    """Make B mixtures of N = ``length`` samples from R crops.

    Returns ``noisy``, ``clean`` and ``noise`` ``[B, N]``, ``level`` ``[B, 1]``, an estimate of the RMS that the whole
    utterance would have in this noise, and the ``bandwidth`` ``[B, 2]`` of speech and noise, Hz. ``clean`` is the
    speech with the part of the room's sound that the target keeps; ``noise`` is all else; ``noisy`` is exactly their
    sum. The signal-to-noise ratio is one of active powers, of clean speech in the whole utterance over noises in the
    crop: a crop with little speech is as noisy as its utterance.

    Args:
        batch: ``crops`` int16 ``[R, M]``, of which the last N samples become the mixture: the first B are speech, the
            others noises.
            For each utterance: ``first`` and ``last``, the samples of the crop where it begins and ends; ``power``, its
            mean power; ``active``, its active power.
            For each noise: ``owner``, its mixture; ``gain``, dB. ``short`` lists the noises that are repeated after
            ``period`` samples, begun ``shift`` samples in.
            For each mixture: ``snr``, dB; ``loudness``, dBFS of active speech; ``speechless``, 0 or 1; ``highpass`` of
            the speech, Hz; ``filters`` ``[B, 2, 4]`` of :func:`~.responses.microphone` for speech and noise;
            ``band`` ``[B, 2]`` of :func:`~.responses.channel`; ``room``, a number or -1.
        rooms: ``[rooms, 2, H]``: the impulse response of each room, and of what the target keeps; H at most M - N.
    """
    batch = {**batch, "crops": to_float(batch["crops"])}
    channel = responses.channel(batch["band"], sample_rate)
    speech_filter, noise_filter = (responses.microphone(part, sample_rate) for part in batch["filters"].unbind(1))
    frequencies = responses.frequencies(sample_rate, channel.device)
    highpass = responses.highpass(batch["highpass"][:, None], 4, frequencies)
    clean, heard, speech_power = _speech(batch, length, highpass * channel * speech_filter, rooms)
    noise = _noise(batch, length, channel * noise_filter, sample_rate)
    level = (speech_power + Spectral.level(noise).square()).sqrt()
    noise = heard - clean + noise
    peak = torch.maximum(clean.abs(), (clean + noise).abs()).amax(1, keepdim=True)
    scale = PEAK / peak.clamp(min=PEAK)
    clean, noise = scale * clean, scale * noise
    known = {"level": scale * level, "bandwidth": batch["bandwidth"]}
    return {"noisy": clean + noise, "clean": clean, "noise": noise, **known}


def _speech(batch: Batch, length: int, response: Tensor, rooms: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return clean and heard speech ``[B, N]``, and the mean power of the whole utterance as heard ``[B, 1]``."""
    crops = batch["crops"][: len(batch["snr"])]
    size = crops.shape[1]
    # A crop reaches back before the mixture: filters and rooms still sound of that, and there lies what a cyclic
    # convolution wraps around from the end.
    time = torch.arange(size, device=crops.device)
    dry = crops * ((time >= batch["first"][:, None]) & (time < batch["last"][:, None]))
    spectrum = torch.fft.rfft(dry) * responses.at_size(response, size)
    if rooms is None:
        heard = clean = torch.fft.irfft(spectrum, size)[:, -length:]
    else:
        in_room = (batch["room"] >= 0)[:, None, None]
        room = torch.where(in_room, torch.fft.rfft(rooms[batch["room"].clamp(min=0)], size), 1)
        heard, clean = torch.fft.irfft(spectrum[:, None] * room, size)[..., -length:].unbind(1)
    # Filter and room change the level of the utterance as they change that of the crop.
    dry_rms = _rms(dry[:, -length:])
    active_rms = batch["active"].sqrt()[:, None] * _ratio(_rms(clean), dry_rms)
    gain = amplitude(batch["loudness"])[:, None] / active_rms.clamp(min=1e-12)
    power = batch["power"][:, None] * (gain * _ratio(_rms(heard), dry_rms)).square()
    gain = gain * (1 - batch["speechless"][:, None])
    return gain * clean, gain * heard, power


def _noise(batch: Batch, length: int, response: Tensor, sample_rate: int) -> Tensor:
    """Return the sum of the noises of each mixture, ``[B, N]``, at the ratio to the speech that is asked for."""
    count = len(batch["snr"])
    crops = batch["crops"][count:]
    noises = crops[:, -length:].clone()
    if len(batch["short"]):
        fade = round(FADE * sample_rate)
        repeated = repeat(crops[batch["short"]], batch["period"], batch["shift"], fade)
        noises[batch["short"]] = repeated[:, -length:]
    # Noises are made equally loud while active, then their sum as loud as the ratio asks for.
    noises *= _ratio(amplitude(batch["gain"]), active_power(noises, sample_rate).sqrt(), silent=0)[:, None]
    noise = torch.zeros(count, length, device=crops.device).index_add_(0, batch["owner"], noises)
    size = crops.shape[1]
    spectrum = torch.fft.rfft(noise, size) * responses.at_size(response, size)
    noise = torch.fft.irfft(spectrum, size)[:, :length]
    wanted = amplitude(batch["loudness"] - batch["snr"])
    return noise * _ratio(wanted, active_power(noise, sample_rate).sqrt(), silent=0)[:, None]


def repeat(x: Tensor, period: Tensor, shift: Tensor, fade: int) -> Tensor:
    """Repeat sounds ``[R, N]`` that end after ``period`` ``[R]`` samples, begun ``shift`` samples in.

    The end of each turn is cross-faded over ``fade`` samples into the next, at equal power.
    """
    overlap = (period // 2).clamp(max=fade)[:, None]
    turn = period[:, None] - overlap
    place = (torch.arange(x.shape[1], device=x.device) + shift[:, None]) % turn
    angle = ((place + 0.5) / overlap.clamp(min=1)).clamp(max=1) * (math.pi / 2)
    last = (place + turn).clamp(max=x.shape[1] - 1)
    return x.gather(1, place) * angle.sin() + x.gather(1, last) * angle.cos()


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).sqrt()


def _ratio(a: Tensor, b: Tensor, silent: float = 1) -> Tensor:
    """Return a / b, and ``silent`` where b is 0."""
    return torch.where(b > 0, a / b.clamp(min=1e-20), silent)
