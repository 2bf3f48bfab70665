# Two commands do all: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# stage commands find `labelrel` through PATH; two threads are part of the results
export PATH := $(CURDIR)/$(BIN):$(PATH)
export OMP_NUM_THREADS ?= 2
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: demo test test-browser smoke check install ui clean

demo: $(STAMP)  ## the whole comparison on real models, a table, and how to look at it
	dvc repro
	@echo
	@labelrel report --show
	@echo
	@echo "The same runs in MLflow, side by side:  $(BIN)/labelrel ui"
	@echo "One page with figures:                  data/report/report.html"

# tiny models gain nothing from a second thread and wait for it where the machine has other work
test: $(STAMP)  ## the test suite
	OMP_NUM_THREADS=1 python -m pytest -q

test-browser: $(STAMP)  ## the report in a real browser; brings playwright, and Debian's chromium where none is installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]' -c constraints.txt
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
		{ echo "no chromium on PATH; try: sudo apt-get install chromium"; exit 2; }
	OMP_NUM_THREADS=1 python -m pytest -q tests/browser

smoke: $(STAMP)  ## the same pipeline on the same model, miniature, in a folder of its own
	python tests/smoke/run.py build/smoke

check: $(STAMP)  ## lint, types, tests
	ruff check .
	ruff format --check .
	mypy
	OMP_NUM_THREADS=1 python -m pytest -q

install: $(STAMP)

# numpy, polars and torch have no say in where pip gets them: constraints.txt keeps torch's small CPU build
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "labelrel needs Python 3.11 or newer; try: make PYTHON=python3"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing; some minutes on the first run"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

ui: $(STAMP)
	labelrel ui

clean:  ## remove what can be made again (not the models in the user cache)
	rm -rf build data/cache .pytest_cache .mypy_cache .ruff_cache
