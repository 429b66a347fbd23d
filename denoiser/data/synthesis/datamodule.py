"""Lightning data module of the embedded corpus."""

from typing import Any

from denoiser.data.datamodule import PairedData
from denoiser.data.synthesis import corpus
from denoiser.errors import ConfigError
from denoiser.spectral import Spectral


class SyntheticData(PairedData):
    """The embedded corpus, written to ``root`` on first use; its settings are explained in conf/data/synthetic.yaml."""

    def __init__(
        self,
        spectral: Spectral,
        root: str,
        minutes: float = 10.0,
        test_minutes: float = 1.0,
        corpus_seed: int = 0,
        **options: Any,
    ) -> None:
        if options.get("download"):
            raise ConfigError("data.download=true: the embedded corpus needs no download; leave it out")
        super().__init__(spectral, root, **options)
        self.minutes, self.test_minutes, self.corpus_seed = minutes, test_minutes, corpus_seed

    def prepare_data(self) -> None:
        corpus.write_corpus(self.root, self.minutes, self.test_minutes, self.corpus_seed)
        super().prepare_data()
