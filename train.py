"""Train, validate and test a denoiser: ``python train.py model=unet10 data=vctk_demand data.root=...``."""

from denoiser.__main__ import main

# The shell fish completes the settings of scripts in which it finds @hydra.main.
if __name__ == "__main__":
    main("train")
