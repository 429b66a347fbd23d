"""Which utterances spoilt a batch: it is made once more, since all that is drawn for it follows from its number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoiser.data.crops import EpochSampler

if TYPE_CHECKING:
    from denoiser.data.datamodule import PairedData


def culprits(data: PairedData, epoch: int, index: int) -> list[str]:
    """Names of the utterances of training batch ``index`` (of all processes) that come out as no finite numbers."""
    dataset = data.training_set(read=data.resident is None)
    order = EpochSampler(dataset, data.seed, data.shuffle)  # type: ignore[arg-type]
    order.set_epoch(epoch)
    items = list(order)[index * data.batch_size : (index + 1) * data.batch_size]
    batch = dataset.__getitems__(items)  # type: ignore[attr-defined]
    if data.resident is not None:
        batch = data.transfer_batch_to_device(batch, data.resident.samples.device, 0)
    sounds = data.changed(batch)
    finite = (sounds["noisy"] + sounds["clean"]).isfinite().all(dim=1).tolist()
    names = dataset.names_of([item for _, item in items])  # type: ignore[attr-defined]
    return [name for name, good in zip(names, finite, strict=True) if not good]
