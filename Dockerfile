# Untested: no container engine was at hand.
#   docker build -t denoiser .
#   docker run --rm -v "$PWD:/audio" denoiser talk.wav
#   docker build -t denoiser-train --target trainer .
#   docker run --rm --gpus all --ipc host -v "$PWD:/audio" denoiser-train train data=synthetic
FROM python:3.11-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends ffmpeg && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml setup.py LICENSE README.md /source/
COPY conf /source/conf
COPY denoiser /source/denoiser
WORKDIR /audio
ENTRYPOINT ["denoiser"]

# PyTorch with CUDA, and a C compiler for the PESQ metric.
FROM base AS trainer
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir "/source[metrics,plot,sweep]"

# PyTorch for the CPU alone.
FROM base AS listener
RUN pip install --no-cache-dir /source --extra-index-url https://download.pytorch.org/whl/cpu
