"""Denoise files, folders or standard input: ``python infer.py noisy.wav``."""

from denoiser.__main__ import main

# The shell fish completes the settings of scripts in which it finds @hydra.main.
if __name__ == "__main__":
    main("infer")
