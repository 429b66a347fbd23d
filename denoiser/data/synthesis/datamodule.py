"""Lightning data module of the embedded corpus."""

from dataclasses import dataclass

from denoiser.data.datamodule import PairedData, check_whole
from denoiser.data.synthesis import corpus
from denoiser.errors import ConfigError


@dataclass(eq=False, repr=False)
class SyntheticData(PairedData):
    """The embedded corpus, written to ``root`` on first use; its settings are explained in conf/data/synthetic.yaml."""

    minutes: float = 10.0
    test_minutes: float = 1.0
    corpus_seed: int = 0

    def __post_init__(self) -> None:
        if self.download:
            raise ConfigError("data.download=true: the embedded corpus needs no download; leave it out")
        super().__post_init__()
        check_whole("corpus_seed", self.corpus_seed, 0)

    def prepare_data(self) -> None:
        corpus.write_corpus(self.root, self.minutes, self.test_minutes, self.corpus_seed)
        super().prepare_data()
