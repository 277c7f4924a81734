# Two commands do everything on a fresh machine: `make run` and `make test`. The rest is for people who work on the code.
# Variables: PYTHON_VERSION (3.11 to 3.13), PORT, MODELS (of the demo), COCO and SPLIT (photographs), and uv's own settings, e.g.
# UV_TORCH_BACKEND=cpu for CPU builds of torch.
SHELL := /bin/sh
# A distribution builds its Python with profiles; one that was built by hand, as pyenv does, is a tenth slower. So the former
# goes first where it is whole and new enough; it is asked when an environment is made, not before.
SYSTEM_PYTHON = $(shell /usr/bin/python3 -c 'import ctypes, sqlite3, ssl, sys; \
  print(sys.executable if (3, 11) <= sys.version_info < (3, 14) else "")' 2>/dev/null)
ANY_PYTHON := >=3.11,<3.14
PYTHON_VERSION ?= $(or $(SYSTEM_PYTHON),$(ANY_PYTHON))
PORT ?= 8501
HOST ?= 0.0.0.0
NAMES ?=
OPEN ?= $(RETRIEVALLENS_OPEN)
COCO ?= coco-mini
SPLIT ?=
VENV := .venv
BIN := $(VENV)/bin
# Some shells forbid Python to keep compiled modules: every start of the app, a command or a test would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

.PHONY: run serve test check audit lock format demo coco-mini bench cluster clean help

run: $(VENV)/.installed  ## environment + app on the embedded demo
	$(BIN)/streamlit run app.py --server.port $(PORT)

# Behind a proxy that ends HTTPS. NAMES: the names by which it is reached; OPEN=1: without sign-in, for everybody who reaches it.
serve: $(VENV)/.installed  ## share it on a network: NAMES=lens.lab.org, see the README
	RETRIEVALLENS_OPEN=$(OPEN) $(BIN)/streamlit run app.py --server.address $(HOST) --server.port $(PORT) \
	  $(foreach name,$(NAMES) localhost 127.0.0.1,--server.allowedHosts $(name)) \
	  --browser.serverAddress $(or $(firstword $(NAMES)),localhost)

test: $(VENV)/.installed-dev  ## environment + all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed-dev  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory audit

# Where the network allows: known holes of what is installed. It never fails for want of an answer, only for a hole.
audit: $(VENV)/.installed-dev  ## known holes of the installed packages
	@$(BIN)/python tests/audit.py

# The versions and hashes of everything that requirements.txt brings, for installs that must be the same everywhere.
lock: $(BIN)/python  ## write requirements.lock
	$(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 -o requirements.lock requirements.txt

format: $(VENV)/.installed-dev  ## rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: $(VENV)/.installed  ## rebuild the embedded demo from its seeds (hours on 2 cores); MODELS=clip-mini for one
	$(BIN)/python -m analysis demo $(MODELS:%=--model %)

# The real-data path without weights: COCO as published (annotations/ and folders of pictures), or any folder with captions.
coco-mini: $(VENV)/.installed  ## stores of real photographs with the demo models: COCO=folder, SPLIT=val2017
	$(BIN)/python -m analysis demo --photographs $(COCO) $(SPLIT:%=--split %) $(MODELS:%=--model %)

bench: $(VENV)/.installed-dev  ## speed against the peers
	$(BIN)/python -m analysis bench all

cluster: $(VENV)/.installed  ## add Ray to the environment
	$(UV) pip install --python $(BIN)/python -r requirements-cluster.txt

clean:  ## remove the environment and tool caches, keep data
	rm -rf $(VENV) .uv .pytest_cache .ruff_cache .mypy_cache

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/  -/'

# --- environment --------------------------------------------------------------------------------------------------
# uv is used where it is; otherwise it comes into a small environment of its own, so nothing outside this folder changes.
.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

$(BIN)/python: $(if $(findstring .uv/bin/uv,$(UV)),.uv/bin/uv)
	test -x $(BIN)/python || $(UV) venv --quiet --python "$(PYTHON_VERSION)" $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	$(UV) pip install --quiet --python $(BIN)/python -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt requirements-vocabularies.txt | $(BIN)/python
	$(UV) pip install --quiet --python $(BIN)/python -r requirements-dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements-vocabularies.txt
	@touch $@ $(VENV)/.installed
