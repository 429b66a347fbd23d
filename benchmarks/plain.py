"""Plain Lightning loop, as tutorials have it, for speed.py: float32, the STFT of each item in two workers.

The network is unet10 with torch's own layers, which compute the same as ours.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import soundfile
import torch
import torchaudio
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from denoiser.models.unet import UNet

FRAMES, HOP, N_FFT, BATCH = 256, 128, 510, 16


def plain(net: UNet) -> UNet:
    net.pairs, net.dropout = False, torch.nn.Dropout(net.dropout.p)
    for index, up in enumerate(net.up):
        net.up[index] = torch.nn.ConvTranspose2d(up.in_channels, up.out_channels, up.kernel_size, up.stride)
    return net


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, root: Path) -> None:
        self.names = sorted(path.name for path in (root / "clean").iterdir())
        self.root = root
        self.stft = torchaudio.transforms.Spectrogram(N_FFT, hop_length=HOP, power=1)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noisy, clean = (
            self.stft(torch.from_numpy(soundfile.read(self.root / side / self.names[index], dtype="float32")[0]))
            for side in ("noisy", "clean")
        )
        start = int(torch.randint(noisy.shape[-1] - FRAMES, ()))
        return noisy[None, :, start : start + FRAMES], clean[None, :, start : start + FRAMES]


class Plain(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.times = plain(UNet()), [time.perf_counter()]

    def training_step(self, batch: Any, index: int) -> Tensor:
        noisy, clean = (x**0.3 for x in batch)
        loss = torch.nn.functional.huber_loss(self.net(noisy).tanh(), noisy - clean)
        self.log("train/loss", loss)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


if __name__ == "__main__":
    steps = int(sys.argv[2]) + 2
    module = Plain()
    loader = DataLoader(Pairs(Path(sys.argv[1])), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    took = [after - before for before, after in zip(module.times[2:], module.times[3:], strict=False)]
    print(json.dumps({"audio_s_per_s": BATCH * FRAMES * HOP / 16_000 / statistics.median(took)}))
