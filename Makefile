# install makes .venv; demo, test, lint and lock each do so by themselves; a second run starts at once.
# Needs python3 (>= 3.10, with venv), make and a C compiler (for the PESQ metric).
PYTHON ?= python3
BIN := .venv/bin
# Two spinning OpenMP threads beside another load can run 30 times slower; waiting threads should sleep.
export OMP_WAIT_POLICY ?= passive

CLIP ?= p257_005# a clip of the test set that make demo denoises

.PHONY: install demo test lint bench peers lock clean
.DEFAULT_GOAL := help
help:
	@echo "make install   the environment: .venv"
	@echo "make demo      train on the embedded corpus, denoise a clip, show before and after (about 6 minutes)"
	@echo "make test      run the tests"
	@echo "make lint      ruff and mypy"
	@echo "make bench     speed and memory of training, inference and the data path, side by side (two hours)"
	@echo "make peers     install the other enhancers that the benchmarks compare with (.venv-peers)"
	@echo "make lock      choose the newest allowed versions anew (requirements.lock)"

# Installed exactly as locked, by hash; uv makes it fast and shares its cache between clones.
.venv/.installed: requirements.lock pyproject.toml setup.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "error: denoiser needs Python 3.10 or newer, found $$($(PYTHON) --version 2>&1); install one and run: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) comes without venv; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@command -v cc >/dev/null || command -v gcc >/dev/null || { \
	  echo "error: no C compiler found for the PESQ metric; install one (Debian, Ubuntu: apt install build-essential python3-dev)" >&2; exit 2; }
	@test -d .venv || test "$$(df -Pk . | awk 'NR==2 {print $$4}')" -gt 8000000 || { \
	  echo "error: the environment needs 8 GB, and $$(df -Ph . | awk 'NR==2 {print $$4}') is free in $$(pwd)" >&2; exit 2; }
	@echo "Creating .venv (a first install fetches about 3 GB, most of it PyTorch) ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	@# Compiled once: where Python may not write bytecode itself, every start would compile torch anew, 15 seconds.
	@VIRTUAL_ENV=.venv $(BIN)/uv pip sync --compile-bytecode --require-hashes --build-constraints requirements.lock requirements.lock
	@# compat: found from any folder, even the one that holds this one, where Python takes denoiser/ for a package
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --config-setting editable_mode=compat --editable .
	@touch $@

install: .venv/.installed

demo: .venv/.installed
	@rm -rf demo
	$(BIN)/python train.py experiment=demo hydra.run.dir=demo/run
	$(BIN)/python infer.py ckpt=demo/run/checkpoints/best.ckpt input=data/synthetic/noisy_testset_wav/$(CLIP).wav \
	  output=demo/$(CLIP)_after.wav plot=true
	@cp data/synthetic/noisy_testset_wav/$(CLIP).wav demo/$(CLIP)_before.wav
	@echo "Listen to demo/$(CLIP)_before.wav and demo/$(CLIP)_after.wav; look at demo/$(CLIP)_after.png"

# As many workers as cores, so one thread each.
test: export OMP_NUM_THREADS ?= 1
test: .venv/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/length.py 1 10 60

# Other enhancers from PyPI, beside the packages of .venv; one of them is also called denoiser.
peers: .venv/.installed
	@$(PYTHON) -m venv --without-pip --clear .venv-peers
	@$(BIN)/python -c 'import glob, sysconfig; open(glob.glob(".venv-peers/lib/python*/site-packages")[0] + "/base.pth", "w").write(sysconfig.get_path("purelib") + "\n")'
	@VIRTUAL_ENV=.venv-peers $(BIN)/uv pip install --quiet --no-deps -r benchmarks/peers.txt

lock: .venv/.installed
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.10 --extra dev --extra sweep \
	  --generate-hashes --no-annotate --no-emit-package denoiser --custom-compile-command "make lock" -o requirements.lock

clean:
	rm -rf .venv .venv-peers demo
