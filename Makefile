# loraq: `make demo` and `make test` do everything on a fresh machine that has Swift.

PREFIX ?= /usr/local
# One configuration for everything: release (C at -O0 is 20 times slower), with tests able to look inside.
SWIFT_BUILD_FLAGS = -c release -Xswiftc -enable-testing
BIN = .build/release
PYTHON = .venv/bin/python
PACKAGES = libzmq3-dev libopenblas-dev libpcre2-dev libsqlite3-dev python3-venv

.PHONY: bench bench-peers bench-queue bench-rows chaos garbage fuzz simulate build demo demo-smollm2 test test-swift test-python test-peft lint format install uninstall clean system-packages

build: system-packages
	swift build $(SWIFT_BUILD_FLAGS)

demo: build
	python3 examples/demo/demo.py --bin $(BIN) --home .demo

demo-smollm2: build .venv/stamp
	$(PYTHON) examples/demo-smollm2/demo.py --bin $(BIN) --home .demo-smollm2

test: system-packages lint test-swift test-python

test-swift: system-packages
	swift build --build-tests $(SWIFT_BUILD_FLAGS)
	swift test --skip-build $(SWIFT_BUILD_FLAGS)

test-python: build .venv/stamp
	LORAQ_BIN=$(CURDIR)/$(BIN) $(PYTHON) -m pytest -q Tests/python clients/python/tests

# The PEFT worker beside the native one. PEFT_PYTHON: a Python with torch, transformers and peft; without it one is made.
test-peft: build .venv/stamp $(if $(PEFT_PYTHON),,.venv-peft/stamp)
	LORAQ_BIN=$(CURDIR)/$(BIN) LORAQ_PEFT_PYTHON=$(or $(PEFT_PYTHON),$(CURDIR)/.venv-peft/workers/peft/venv/bin/python) $(PYTHON) -m pytest -q workers/peft/tests

.venv-peft/stamp: workers/peft/requirements.txt workers/peft/install.py
	python3 workers/peft/install.py --cpu --home .venv-peft
	touch $@

# SEEDS=n: the first n histories of the broker's core; SEEDS=a..b: those (a failed one says how to replay it).
SEEDS ?= 2000
simulate: system-packages
	LORAQ_SIM_SEEDS=$(SEEDS) swift test $(SWIFT_BUILD_FLAGS) --filter BrokerCoreTests.SimulationTests

# KILLS=n: SIGKILL to broker and workers at random, so often; SEED=n: the same choices again.
KILLS ?= 500
chaos: build .venv/stamp
	LORAQ_BIN=$(CURDIR)/$(BIN) $(PYTHON) Tests/python/chaos.py --kills $(KILLS) $(if $(SEED),--seed $(SEED))

# FRAMES=n: so many mutated frames to the broker's sockets while jobs run.
FRAMES ?= 1000000
garbage: build .venv/stamp
	LORAQ_BIN=$(CURDIR)/$(BIN) $(PYTHON) Tests/python/garbage.py --frames $(FRAMES) $(if $(SEED),--seed $(SEED))

# FILES=n: so many mutated model, adapter and configuration files through the readers.
FILES ?= 1000000
fuzz: system-packages
	LORAQ_FUZZ_FILES=$(FILES) swift test $(SWIFT_BUILD_FLAGS) --filter FuzzTests

lint: .venv/stamp
	swift format lint --strict --recursive Sources Tests Package.swift
	$(PYTHON) Tests/lint/check_imports.py
	$(PYTHON) -m ruff check clients examples workers Benchmarks Tests

format:
	swift format --in-place --recursive Sources Tests Package.swift

# The speed table, beside its peers. ROWS=a,b: those rows only (`make bench-rows` tells them); QUICK=1: small rounds, to see that all runs;
# ROUNDS=n; PEERS: the folder that `make bench-peers` fills; DATA: models, figures and logs; MODEL: SmolLM2-135M-Instruct's folder.
bench: build .venv/stamp
	$(PYTHON) Benchmarks/bench.py --bin $(BIN) $(if $(ROWS),--rows $(ROWS)) $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(PEERS),--peers $(PEERS)) $(if $(DATA),--data $(DATA)) $(if $(MODEL),--model $(MODEL))

bench-rows:
	@python3 Benchmarks/bench.py --list

bench-peers:
	python3 Benchmarks/peers/install.py $(or $(PEERS),$(HOME)/.cache/loraq-peers)

# The queue alone, on tasks that do nothing. PEERS: a Python with hyperqueue and rq (and redis-server on PATH).
SCALE ?= 1
bench-queue: build .venv/stamp
	$(PYTHON) Benchmarks/queue/run.py --bin $(BIN) --scale $(SCALE) $(if $(PEERS),--peers $(PEERS)) --write

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/loraq/workers/lora
	install -m 755 $(BIN)/loraq $(BIN)/loraqd $(BIN)/lora-worker $(DESTDIR)$(PREFIX)/bin
	install -m 644 workers/lora/worker.json $(DESTDIR)$(PREFIX)/share/loraq/workers/lora
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN)/loraq --generate-completion-script bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/loraq
	$(BIN)/loraq --generate-completion-script zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_loraq
	$(BIN)/loraq --generate-completion-script fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/loraq.fish

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,loraq loraqd lora-worker)
	rm -rf $(DESTDIR)$(PREFIX)/share/loraq
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/loraq $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_loraq $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/loraq.fish

clean:
	rm -rf .build .venv .venv-peft .demo .demo-smollm2

# Installs what is missing where it may, otherwise prints the one command to type.
system-packages:
	@scripts/system-packages.sh $(PACKAGES)

.venv/stamp: Tests/python/requirements.txt clients/python/pyproject.toml
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r Tests/python/requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -e clients/python
	touch $@
