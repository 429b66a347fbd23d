"""Dual-path network: a recurrence along time and attention along frequency, in turns, on a few bands."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models.causal import Memory, Recurrence
from denoiser.models.crn import CRN

HEADS = 4  # of the attention


class DualPathLayer(nn.Module):
    """Recurrence along time, attention along frequency, two linear layers; each normalised first and added."""

    def __init__(self, channels: int, bands: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        if channels % HEADS:
            raise ValueError(f"widths end with {channels}; expected a multiple of {HEADS}, the heads of the attention")
        # Attention alone cannot tell high bands from low ones: each has a learnt vector.
        self.place = nn.Parameter(0.02 * torch.randn(bands, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.recurrence = Recurrence(channels, hidden, causal, segment)
        self.out = nn.Linear(hidden, channels)
        self.attend = nn.Linear(channels, 3 * channels)
        self.joined = nn.Linear(channels, channels)
        self.wide = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        batch, channels, bands, frames = x.shape
        rows = x.permute(0, 2, 3, 1)  # [B, F', T, C]
        y = self.recurrence(self.norms[0](rows).reshape(batch * bands, frames, channels), memory)
        rows = rows + self.out(y).view(batch, bands, frames, channels)
        rows = rows.transpose(1, 2)  # [B, T, F', C]
        rows = rows + self.joined(self._attention(self.norms[1](rows) + self.place))
        rows = rows + self.narrow(F.silu(self.wide(self.norms[2](rows))))
        return rows.permute(0, 3, 2, 1)

    def _attention(self, rows: Tensor) -> Tensor:
        """Mix the bands of each frame: ``[B, T, F', C]`` → the same shape."""
        batch, frames, bands, channels = rows.shape
        parts = self.attend(rows).reshape(batch * frames, bands, 3, HEADS, channels // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B T, HEADS, F', C / HEADS] each
        # Written out because torch's fused attention takes ten times as long backwards, for so few bands on a CPU.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        mixed = torch.softmax(scores, dim=-1) @ value
        return mixed.transpose(1, 2).reshape(batch, frames, bands, channels)


class DualPath(CRN):
    """:class:`CRN` with another bottleneck: all bands share one recurrence over time, and attend to each other.

    Of the family of DPRNN (Luo, Chen and Yoshioka 2020), DPCRN (Le et al. 2021), GTCRN (Rong et al. 2024) and
    FastEnhancer (Ahn et al. 2025): few parameters, each used many times. ``hidden`` are units for one band.
    """

    layer = DualPathLayer
