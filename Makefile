# Two commands do everything on a fresh machine: `make run` and `make test`. The rest is for people who work on the code.
# Variables: PYTHON_VERSION (3.11 or 3.12), PORT, MODELS (of the demo), and uv's own settings, e.g. UV_TORCH_BACKEND=cpu for CPU builds of torch.
SHELL := /bin/sh
PYTHON_VERSION ?= >=3.11,<3.13
PORT ?= 8501
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

.PHONY: run test check format demo bench cluster clean help

run: $(VENV)/.installed  ## environment + app on the embedded demo
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: $(VENV)/.installed-dev  ## environment + all tests
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: $(VENV)/.installed  ## rebuild the embedded demo from its seeds (hours on 2 cores); MODELS=clip-mini for one
	$(BIN)/python -m analysis demo $(MODELS:%=--model %)

bench: $(VENV)/.installed-dev  ## speed against the peers
	$(BIN)/python -m analysis bench all

cluster: $(VENV)/.installed  ## add Ray to the environment
	$(UV) pip install --python $(BIN)/python -r requirements-cluster.txt

clean:  ## remove the environment and tool caches, keep data
	rm -rf $(VENV) .uv .pytest_cache .ruff_cache .mypy_cache

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/  -/'

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
