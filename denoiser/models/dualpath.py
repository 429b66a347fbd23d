"""The dual-path network: a recurrence along time and attention along frequency, in turns, on a few bands."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models.causal import Memory, Recurrence
from denoiser.models.crn import CRN

HEADS = 4  # of the attention


class DualPath(CRN):
    """As :class:`CRN`, but every band has its own recurrence over time, of the same weights, and bands attend to each
    other within a frame.

    The family of DPRNN (Luo, Chen and Yoshioka 2020), DPCRN (Le et al. 2021), GTCRN (Rong et al. 2024) and FastEnhancer
    (Ahn et al. 2025): few parameters, many uses of each.

    Args:
        hidden: units of each recurrence, of one band.
        layers: of the bottleneck, each a recurrence and an attention.
    """

    @staticmethod
    def between(channels: int, bands: int, hidden: int, causal: bool, segment: int) -> nn.Module:
        return _Layer(channels, bands, hidden, causal, segment)


class _Layer(nn.Module):
    def __init__(self, channels: int, bands: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        if channels % HEADS:
            raise ValueError(
                f"the last of widths, {channels}, must be a multiple of {HEADS}, the heads of the attention"
            )
        self.place = nn.Parameter(torch.empty(bands, channels))  # attention alone knows no high and low
        if not self.place.is_meta:
            self.place.data = 0.02 * torch.randn(bands, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.recurrence = Recurrence(channels, hidden, causal, segment)
        self.out = nn.Linear(hidden, channels)
        self.attend = nn.Linear(channels, 3 * channels)
        self.joined = nn.Linear(channels, channels)
        self.wide, self.narrow = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        batch, channels, bands, frames = x.shape
        rows = x.permute(0, 2, 3, 1)  # [B, F', T, C]
        y = self.recurrence(self.norms[0](rows).reshape(batch * bands, frames, channels), memory)
        rows = (rows + self.out(y).view(batch, bands, frames, channels)).transpose(1, 2)  # [B, T, F', C]
        y = self.attend(self.norms[1](rows) + self.place).reshape(batch * frames, bands, 3, HEADS, -1)
        q, k, v = y.permute(2, 0, 3, 1, 4)
        # Written out: on a CPU, for so few bands, torch's fused attention is ten times slower backwards.
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        y = (weights @ v).transpose(1, 2).reshape(batch, frames, bands, channels)
        rows = rows + self.joined(y)
        rows = rows + self.narrow(F.silu(self.wide(self.norms[2](rows))))
        return rows.permute(0, 3, 2, 1)
