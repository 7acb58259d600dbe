# Two commands do everything on a fresh machine with Python 3.11+, make and glibc: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BENCH = .venv-bench
FUZZ = .venv-fuzz
# what was tested together; the package itself states ranges
CONSTRAINTS = -c constraints.txt
TORCH = torch torchvision
APT = apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	chromium chromium-driver >/dev/null

.PHONY: demo test test-browser lint format docs wheel fuzz fuzz-coverage soak bench-scale bench-events bench-simulate bench-neurons bench-export bench-stream clean

demo: $(VENV)/installed
	$(BIN)/evlift demo

test: $(VENV)/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

# the pages in a real Chromium: the system's, installed by apt where that is possible
test-browser: $(VENV)/installed
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { test "$$(id -u)" = 0 && $(APT); } || \
		{ echo "Expected chromium and chromedriver. Install them: apt-get install chromium chromium-driver" >&2; exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/browser

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(VENV)/installed
	$(BIN)/python -m build

fuzz: $(VENV)/installed
	EVLIFT_FUZZ=10000 $(BIN)/python -m pytest -q tests/events/test_fuzz.py

# SECONDS for each reader, READERS="evt3 dsec" for some of them
fuzz-coverage: $(FUZZ)/installed
	$(FUZZ)/bin/python tests/events/fuzz_coverage.py --seconds $(or $(SECONDS),600) $(READERS)

soak: $(VENV)/installed
	$(BIN)/python benchmarks/soak.py train --kills 50
	$(BIN)/python benchmarks/soak.py convert --kills 50
	$(BIN)/python benchmarks/soak.py export --kills 50

bench-scale: $(VENV)/installed
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/shared_curves.py

bench-events: $(BENCH)/installed
	$(BENCH)/bin/python benchmarks/represent.py
	$(BENCH)/bin/python benchmarks/decode.py

bench-simulate: $(VENV)/installed
	$(BIN)/python benchmarks/simulate.py

bench-neurons: $(BENCH)/installed
	$(BENCH)/bin/python benchmarks/neurons.py

bench-export: $(VENV)/installed
	$(BIN)/python benchmarks/export.py

bench-stream: $(VENV)/installed
	$(BIN)/python benchmarks/stream.py speed
	$(BIN)/python benchmarks/stream.py soak

# the mark depends on what decides the installation, so that a changed dependency installs again
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q $(CONSTRAINTS) $(TORCH)
	$(BIN)/python -m pip install -q $(CONSTRAINTS) -e '.[demo,parquet,tensorboard,onnx,nir,tune]' --group dev
	touch $@

# the peers of the benchmarks live in an environment of their own, on top of the first
$(BENCH)/installed: $(VENV)/installed benchmarks/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir(\"{site.getsitepackages()[0]}\")')" \
		> $$($(BENCH)/bin/python -c "import site; print(site.getsitepackages()[0])")/evlift-base.pth
	$(BENCH)/bin/python -m pip install -q $(CONSTRAINTS) -r benchmarks/requirements.txt
	touch $@

$(FUZZ)/installed: $(VENV)/installed
	test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir(\"{site.getsitepackages()[0]}\")')" \
		> $$($(FUZZ)/bin/python -c "import site; print(site.getsitepackages()[0])")/evlift-base.pth
	$(FUZZ)/bin/python -m pip install -q $(CONSTRAINTS) atheris
	touch $@

clean:
	rm -rf $(VENV) $(BENCH) $(FUZZ) build dist site runs demo-report
