# Two commands do everything on a fresh machine with Python 3.11+, make and glibc: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BENCH = .venv-bench
# what was tested together; the package itself states ranges
CONSTRAINTS = -c constraints.txt
TORCH = torch torchvision

.PHONY: demo test lint format docs wheel fuzz soak bench-scale bench-events bench-simulate bench-neurons bench-digits clean

demo: $(VENV)/installed
	$(BIN)/evlift demo

test: $(VENV)/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

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

soak: $(VENV)/installed
	$(BIN)/python benchmarks/soak_training.py train --kills 50

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

bench-digits: $(VENV)/installed
	$(BIN)/python benchmarks/digits.py run --out runs/digits
	$(BIN)/python benchmarks/digits.py table --out runs/digits

# the mark depends on what decides the installation, so that a changed dependency installs again
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q $(CONSTRAINTS) $(TORCH)
	$(BIN)/python -m pip install -q $(CONSTRAINTS) -e '.[demo,tensorboard]' --group dev
	touch $@

# the peers of the benchmarks live in an environment of their own, on top of the first
$(BENCH)/installed: $(VENV)/installed benchmarks/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir(\"{site.getsitepackages()[0]}\")')" \
		> $$($(BENCH)/bin/python -c "import site; print(site.getsitepackages()[0])")/evlift-base.pth
	$(BENCH)/bin/python -m pip install -q $(CONSTRAINTS) -r benchmarks/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(BENCH) build dist site runs demo-report
