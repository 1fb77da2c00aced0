# Everything goes into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?= photos
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A close-up, and a scene of which an object is a part
SCENE = $$($(BIN)/python -c "import pathlib, skimage; print(pathlib.Path(skimage.__file__).parent / 'data' / 'camera.png')")
PHOTO = $$($(BIN)/python -c "import pathlib, skimage; print(pathlib.Path(skimage.__file__).parent / 'data' / 'chelsea.png')")

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal
ROOM ?= .

.PHONY: demo screenshots test test-slow test-all quick mutate lint bench bench-cost bench-meaning compat clean

demo: $(VENV)/demo
	@$(BIN)/whycam explain "$(PHOTO)" --figure -o demo
	@echo
	@$(BIN)/whycam compare "$(PHOTO)" --methods grad_cam,grad_cam_plus_plus,layer_cam,hires_cam,xgrad_cam,cam,eigen_cam -o demo/chelsea.methods.png
	@echo
	@$(BIN)/whycam compare "$(SCENE)" --methods grad_cam --targets tripod,"reflex camera" -o demo/camera.targets.png

# The page, a report and a notebook in Debian's Chromium, for README and docs
screenshots: $(VENV)/dev
	$(BIN)/python docs/screenshots.py

test: lint $(VENV)/backends
	$(PYTEST) -m "not slow"
	$(BIN)/python tests/keras_backends.py -m "not slow"

# Whole products and long sweeps, which `make test` leaves out
test-slow: $(VENV)/backends
	$(PYTEST) -m slow $(MORE)
	$(BIN)/python tests/keras_backends.py -m slow $(MORE)

test-all: test test-slow

# The tests of one folder or file, without what is slow: make quick ROOM=network/layers
quick: $(VENV)/dev
	$(PYTEST) -m "not slow" tests/$(ROOM)

# Keras' other backends and YOLO's package, AGPL, for the tests, without which a machine may have to do
$(VENV)/backends: constraints.txt $(VENV)/dev
	-$(PIP) tensorflow-cpu
	-$(PIP) jax
	-$(PIP) ultralytics
	@touch $@

# Faults planted one at a time, each of which a test has to catch: make mutate ONLY=scoring
mutate: $(VENV)/backends
	$(BIN)/python tests/mutations.py $(ONLY)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Beside the other libraries; writes its part of docs/benchmarks.md and benchmarks/results.json
bench: $(VENV)/bench
	$(BIN)/python benchmarks/bench.py

# PHOTOS: a folder of ImageNet photos whose names begin with the class number, 281_tabby.jpg
bench-cost: $(VENV)/bench
	$(BIN)/python benchmarks/cost.py --images "$(PHOTOS)"

bench-meaning: $(VENV)/bench
	$(BIN)/python benchmarks/meaning.py measure builtin --images "$(PHOTOS)"

# Every model of the zoo; it goes on from where it was stopped, and writes docs/compatibility.md when all are done
compat: $(VENV)/dev
	$(BIN)/python -m compatibility --json $(VENV)/compatibility.json --write
	$(BIN)/python -m compatibility.attention --json $(VENV)/attention.json --write

# One stamp for each set of extras, renewed when what it was made from changes
$(VENV)/%: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) demo
