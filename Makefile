# Every target works in $(VENV), which is made on first use and brought up to date when setup.py
# changes. `make <target> PYTHON=python3` uses that interpreter as it is and installs nothing.

VENV ?= .venv
FUZZ_FACTOR ?= 100
KINDS ?= detection segmentation pretraining dcan
KILLS ?= 20
FOLDER ?= output/faults
VERSIONS ?=
DEMO := configs/demo

ifdef PYTHON
installed =
else
# `override`: an empty PYTHON= on the command line means the default too.
override PYTHON := $(VENV)/bin/python
# One stamp per extra, touched only after pip succeeded: an interrupted install is repeated.
installed = $(VENV)/.installed-$(1)
endif

# Scripts under tools/ and what the tests start must see this checkout, installed or not.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

# Threads that wait for work must not burn the cores of whoever else computes on this machine: with
# busy waiting, a training step beside one other job took ten times as long.
export OMP_WAIT_POLICY ?= PASSIVE

# Two processes of one thread each are faster than one of two, where pytest can be split.
PYTEST = OMP_NUM_THREADS=1 $(PYTHON) -m pytest \
	$$($(PYTHON) -c "import xdist" 2>/dev/null && echo "-n 2")

.PHONY: help demo demo-zoom demo-stream test test-detectron2 test-slow fuzz long-runs faults versions \
	check-gpu lint docs bench
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26
	@echo "  PYTHON=python3 on any of them uses that interpreter instead of $(VENV)"

demo: $(call installed,demo) ## train a detector, make it adaptive, draw what it looks at
	$(PYTHON) tools/train_net.py --config-file $(DEMO)/retinanet.yaml --resume
	$(PYTHON) tools/train_net.py --config-file $(DEMO)/sar_retinanet.yaml --resume \
		MODEL.WEIGHTS output/demo/retinanet/model_final.pth
	$(PYTHON) tools/visualize.py --config-file $(DEMO)/sar_retinanet.yaml \
		--beside output/demo/retinanet

demo-zoom: $(call installed,demo) ## look closer where it pays in large images, in about 25 minutes
	$(PYTHON) tools/train_net.py --config-file $(DEMO)/retinanet.yaml --resume
	$(PYTHON) tools/train_net.py --config-file $(DEMO)/wide_retinanet.yaml --resume
	$(PYTHON) tools/zoom.py gains --config-file $(DEMO)/wide_retinanet.yaml \
		--dataset wide_digits_gains --max-images 100
	$(PYTHON) tools/zoom.py train --config-file $(DEMO)/wide_retinanet.yaml
	$(PYTHON) tools/zoom.py predict --config-file $(DEMO)/wide_retinanet.yaml
	$(PYTHON) tools/zoom.py table --config-file $(DEMO)/wide_retinanet.yaml --max-images 50

demo-stream: $(call installed,demo) ## run a detector on a tenth of a video's frames
	$(PYTHON) tools/train_net.py --config-file $(DEMO)/retinanet.yaml --resume
	$(PYTHON) tools/stream.py --config-file $(DEMO)/retinanet.yaml digit_videos_bursts \
		--schedule difference --rate 0.1 -o output/demo/stream/bursts.mp4 --overwrite

test: $(call installed,dev) ## run the tests (detectron2's are skipped where it is missing)
	$(PYTEST)

test-detectron2: $(call installed,dev) ## run the tests that need detectron2
	@$(PYTHON) -c "import detectron2" || { echo "error: $(PYTHON) has no working detectron2;" \
		"name an interpreter that has one: make test-detectron2 PYTHON=python3" >&2; exit 1; }
	$(PYTEST) -m "detectron2 and not slow" $$(grep -rl --include="*.py" "mark\.detectron2" tests)

test-slow: $(call installed,dev) ## run the tests that take minutes
	$(PYTHON) -m pytest -m slow

fuzz: $(call installed,dev) ## try FUZZ_FACTOR (100) times as many generated inputs, anew each time
	FUZZ_FACTOR=$(FUZZ_FACTOR) $(PYTEST) -m fuzz

long-runs: $(call installed,dev) ## see that 10,000 calls of changing sizes leave no memory behind
	FUZZ_FACTOR=167 OMP_NUM_THREADS=1 $(PYTHON) -m pytest -rP \
		tests/backbones/test_long_runs.py tests/video/test_long_streams.py

faults: $(call installed,dev) ## kill trainings of KINDS (all but detectron2) KILLS times and compare
	OMP_NUM_THREADS=1 $(PYTHON) -m tests.faults.kills $(KINDS) --kills $(KILLS) --folder $(FOLDER)

versions: $(call installed,dev) ## run the tests with other versions and without packages, for hours
	$(PYTHON) -m tests.versions --folder output/versions $(VERSIONS)

check-gpu: $(call installed,dev) ## check on a GPU what CI cannot, in four minutes (CHECK="--only tests")
	$(PYTHON) -m tests.gpu.check $(CHECK)

lint: $(call installed,dev) ## check style
	$(PYTHON) -m ruff check .

docs: $(call installed,dev) ## write the reference of options anew
	$(PYTHON) -m dynbackbones.integrations.options_page > docs/options.md

# Nothing else should run during a measurement, and waking threads up would count.
bench: $(call installed,demo) ## measure the backbones on this machine
	env -u OMP_WAIT_POLICY $(PYTHON) tools/benchmark.py --treatment packed

$(VENV)/.installed-%: setup.py
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --editable ".[$*]"
	touch $@
