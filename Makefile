# Phone recognition with CTC. `make` alone lists what there is.

PYTHON ?= python3
RECIPE ?= mini
SYSTEM ?= blstm_ctc
MODEL ?= en-us-phones
PORT ?= 8000
ARGS ?=

VENV := .venv
READY := $(VENV)/.ready
ASR := $(VENV)/bin/asr
YAML := recipes/$(RECIPE)/$(SYSTEM).yaml
RUN ?= runs/$(RECIPE)/$(SYSTEM)
TRAINED := $(RUN)/.made-from
SCORED := $(RUN)/results.txt
WORDS := runs/en_us_words
CORPORA := $(if $(TIMIT)$(DATA),--data $(or $(TIMIT),$(DATA)))

NAMES = $(if $(filter all,$(SYSTEMS)),$(basename $(notdir $(wildcard recipes/$(RECIPE)/*.yaml))),$(SYSTEMS))

.PHONY: help setup lock lint docs test test-kernels train evaluate compare words rescoring boundaries pronunciation transcribe demo bench figures clean
.DELETE_ON_ERROR:

help: ## list the targets
	@echo "make train                                  set up, train on the embedded corpus 'mini', score it"
	@echo "make train RECIPE=timit TIMIT=/path/to/TIMIT    the same on another corpus: timit, speechocean762, en_us_phones"
	@echo "make train RECIPE=mini_librispeech [DATA=/path]    without DATA the corpus is downloaded"
	@echo "make evaluate RECIPE=mini [SYSTEM=blstm_ctc]    score a trained system again"
	@echo "make compare RECIPE=mini [SYSTEMS=all]          one table and figure of a recipe's systems"
	@echo "make transcribe AUDIO=\"a.wav b.flac\" [MODEL=runs/mini/blstm_ctc]    print the phones in recordings"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@echo
	@echo "ARGS=\"train.max_epochs=3 seed=2\" changes settings, and RUN=runs/mini/other keeps them apart from the default run;"
	@echo "SYSTEM names the YAML in recipes/RECIPE."

setup: $(READY) ## make .venv with the locked versions

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check --quiet --requirement requirements.lock
	$(VENV)/bin/pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

lock: $(READY) ## write requirements.lock anew from pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra train --extra dev --extra docs --no-header --upgrade pyproject.toml -o requirements.lock

lint: $(READY) ## ruff, mypy and the order of the rooms, as pre-commit runs them
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Without --quiet, which would hide the warnings from --strict, too.
docs: $(READY) ## build the documentation in site/, every link checked; no network is needed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	@echo "open site/index.html"

test: $(READY) ## run the tests, two files of them at a time
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-kernels: $(READY) ## run the tests of compiled code with its bounds checked
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(CURDIR)/.numba-boundscheck $(VENV)/bin/python -m pytest -q -n 2 -m "kernels and not slow and not gpu"

train: $(SCORED) ## train a recipe's system and score it; goes on where it stopped
	@cat $(SCORED)

# $(TRAINED) says what the run was made from: what was asked for, and what was in the corpora. As long as both are the same,
# and nothing else has trained in the folder since, nothing is done; else `asr train` decides.
$(TRAINED): FORCE | $(READY)
	@made_from="$$(printf '%s\n' '$(subst ','\'',$(CORPORA) $(ARGS))'; cat $(YAML); $(ASR) prepare $(YAML) $(CORPORA) $(ARGS))" || exit; \
	if [ "$$made_from" != "$$(cat $@ 2>/dev/null)" ] || [ $(RUN)/config.yaml -nt $@ ]; then \
		$(ASR) train $(YAML) $(CORPORA) $(ARGS) --run $(RUN) && printf '%s\n' "$$made_from" > $@; \
	fi

FORCE:

$(SCORED): $(TRAINED)
	@$(ASR) evaluate $(RUN) $(CORPORA) $(filter data.%,$(ARGS)) > $@.partial
	@mv $@.partial $@

evaluate: $(READY) ## score a trained system on its test speakers
	$(ASR) evaluate $(RUN) $(CORPORA) $(ARGS)

compare: $(READY) ## put a recipe's scored systems side by side; SYSTEMS=all or "a b" trains and scores these before
	@for system in $(NAMES); do $(MAKE) --no-print-directory train SYSTEM=$$system RUN=runs/$(RECIPE)/$$system || exit 1; done
	@$(ASR) compare $(or $(NAMES:%=runs/$(RECIPE)/%),runs/$(RECIPE)) --output runs/$(RECIPE)-compare

words: $(WORDS)/books.txt ## make the word model en-us-words anew, and the full one, from public-domain books (0.9 GB)
	for model in full trigram contexts; do $(ASR) lm train recipes/en_us_words/lm/$$model.yaml --run $(WORDS)/$$model || exit 1; done
	$(ASR) lm prune $(WORDS)/trigram $(WORDS)/pruned --threshold 9.5e-8 --history $(WORDS)/contexts
	$(ASR) lm quantise $(WORDS)/pruned $(WORDS)/en-us-words --bits 8
	for model in full en-us-words; do $(ASR) lm lexicon $(WORDS)/$$model || exit 1; done

rescoring: $(WORDS)/books.txt ## train the recurrent model that rescores words, en-us-words-lstm: 1.5 hours
	$(ASR) lm train recipes/en_us_words/lm/recurrent.yaml --run $(WORDS)/recurrent
	$(ASR) lm quantise $(WORDS)/recurrent $(WORDS)/en-us-words-lstm

$(WORDS)/books.txt: | $(READY)
	mkdir -p $(@D)
	$(VENV)/bin/python -m data_prep.books $(or $(BOOKS),data/books) $@

boundaries: $(READY) ## train what places phone boundaries with MODEL, on its corpora in DATA
	$(ASR) train-boundaries $(MODEL) $(ARGS) $(CORPORA) --output runs/boundaries/$(notdir $(MODEL))

pronunciation: $(READY) ## train what scores pronunciation with MODEL, on speechocean762 in DATA
	$(ASR) train-scorer $(MODEL) $(CORPORA) $(if $(SCORES),--scores $(SCORES)) --output runs/pronunciation/$(notdir $(MODEL))

transcribe: $(READY) ## print the phones in AUDIO
	@$(ASR) transcribe $(AUDIO) --model $(MODEL)

demo: $(READY) ## recognise in the browser alone: write the page, and serve it to this machine at PORT
	$(ASR) export en-us-phones-small runs/demo --web --int8
	@echo "http://127.0.0.1:$(PORT)"
	@$(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory runs/demo $(PORT)

bench: $(VENV)/.bench ## run the benchmarks: ours beside its peers; those that need a corpus or a text say so
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(VENV)/bin/python $$script || [ $$? = 2 ] || exit 1; done

$(VENV)/.bench: $(READY)
	$(VENV)/bin/pip install --disable-pip-version-check --quiet --constraint requirements.lock --editable ".[bench]"
	@touch $@

figures: $(READY) ## draw the figures in docs/figures
	@for script in docs/figures/*.py; do $(VENV)/bin/python $$script || exit 1; done

clean: ## delete runs, the built documentation and caches; corpora, manifests and .venv stay
	rm -rf runs .numba-boundscheck site data/*/features data/features .pytest_cache .ruff_cache .mypy_cache .hypothesis
