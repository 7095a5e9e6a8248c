# Everything a person types here. `make help` lists it.
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# Tests start hundreds of Python programs: each would compile all of ours anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian packages: what the programs run on, and what the tests and pictures need besides.
DEMO_PACKAGES := mosquitto libzbar0
TEST_PACKAGES := $(DEMO_PACKAGES) postgresql chromium libatomic1 strace curl openssl systemd \
  fdisk cryptsetup-bin nftables iproute2 \
  ghostscript fonts-dejavu-core

# The rooms that decide: tested with every branch covered.
PURE := protocol device/till device/enrolling device/updating cloud/ledger cloud/tickets
PURE_TESTS := $(addprefix tests/,$(PURE))

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
	  awk -F ':.*## ' '{printf "  \033[1mmake %-18s\033[0m %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/.demo ## A whole venue on this machine: one sale, for real (ARGS="--sales 5 --exit")
	@$(BIN)/railtix-venue demo $(ARGS)

.PHONY: test
test: $(VENV)/.dev ## Install what the tests need, and run them all
	$(BIN)/pytest -q -n 2 $(PURE_TESTS) $(foreach room,$(PURE),--cov=$(subst /,.,$(room))) \
	  --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100
	$(BIN)/pytest -q -n 4 --dist loadgroup $(addprefix --ignore=,$(PURE_TESTS) tests/image) $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Ask the API for anything at all, for long (ARGS="--examples 500 --seed 7")
	$(BIN)/python -m tests.cloud.api.fuzzing $(ARGS)

.PHONY: check
check: $(VENV)/.dev ## Format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev ## Format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench-throughput
bench-throughput: $(VENV)/.dev ## Deducts a second beside pgbench on the same server
	$(BIN)/python -m bench.throughput $(ARGS)

.PHONY: bench-latency
bench-latency: $(VENV)/.dev ## Frame to light, split by stage
	$(BIN)/python -m bench.latency $(ARGS)

.PHONY: bench-revocation
bench-revocation: $(VENV)/.dev ## How soon a revoked appliance is refused, and its session ended
	$(BIN)/python -m bench.revocation $(ARGS)

.PHONY: bench-scanner
bench-scanner: $(VENV)/.dev ## What the scanner reads of a folder of photos (PHOTOS=folder)
	$(BIN)/python -m bench.scanner --photos "$(PHOTOS)" $(ARGS)

.PHONY: image
image: $(VENV)/.dev ## Build the appliance's image and its update bundle, as root (PROFILE=debian VERSION=)
	$(call debian,mmdebstrap)
	@$(BIN)/python -m image build --profile $(or $(PROFILE),debian) \
	  $(if $(VERSION),--version $(VERSION)) $(ARGS)

.PHONY: slips
slips: $(VENV)/.dev ## Draw every kind of slip as the printer prints it (ARGS="--narrow --out /tmp")
	$(BIN)/python -m bench.slips $(ARGS)

.PHONY: first-lights
first-lights: $(VENV)/.dev ## Draw what the lamp says on the way to the first badge
	$(BIN)/python -m bench.lights_picture

.PHONY: badge-sheet
badge-sheet: $(VENV)/.dev ## Draw a sheet of made-up staff badges (ARGS="--pdf FILE --paper letter")
	$(BIN)/python -m bench.badge_sheet $(ARGS)

.PHONY: bench-fleet
bench-fleet: $(VENV)/.dev ## A thousand appliances: connect, beat, get a policy (ARGS="--restart-broker")
	$(BIN)/python -m bench.fleet $(ARGS)

.PHONY: fleet-picture
fleet-picture: $(VENV)/.dev ## Draw `railtix-ops device watch` of a made-up fleet for the README
	$(BIN)/python -m bench.fleet_picture docs/pictures/fleet-watch.svg

.PHONY: bench-export
bench-export: $(VENV)/.dev ## A million transactions as CSV, JSON Lines and XLSX: time and memory
	$(BIN)/python -m bench.export $(ARGS)

.PHONY: bench-api
bench-api: $(VENV)/.dev ## QR tokens and balances a second beside a bare FastAPI endpoint
	$(BIN)/python -m bench.api $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev ## A rush with faults, for hours: memory, lost sales, double postings (MINUTES=60)
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),60)

.PHONY: image-test
image-test: $(VENV)/.dev ## Boot the image in QEMU: enrol by camera, sell, update, cut its power
	$(BIN)/pytest -q -p no:randomly tests/image $(ARGS)

.PHONY: image-power-cuts
image-power-cuts: $(VENV)/.dev ## Cut the emulated appliance's power, for long (ARGS="--moments 20")
	$(BIN)/python -m image.emulation.power_cuts $(ARGS)

.PHONY: image-reproducible
image-reproducible: $(VENV)/.dev ## Build HEAD again, elsewhere, and compare it with the last image (its options in ARGS)
	$(BIN)/python -m image.papers.again $(ARGS)

.PHONY: lock
lock: $(VENV)/.dev ## Pin every Python package anew, with hashes and without addresses
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile $(LOCK) --extra device --extra cloud --extra ops --extra venue \
	  --group build -o locks/demo.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --extra device --extra cloud --extra ops --extra venue \
	  --group build --group dev --group image -o locks/dev.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --extra cloud --constraint locks/dev.txt \
	  -o locks/cloud.txt pyproject.toml
	$(BIN)/uv pip compile $(filter-out --universal --python-version 3.11,$(LOCK)) \
	  --python-version 3.13 --python-platform aarch64-manylinux_2_40 \
	  --override locks/appliance-overrides.in --extra device --extra pi \
	  --constraint locks/dev.txt -o locks/appliance.txt pyproject.toml

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
  --no-emit-index-url --no-emit-find-links --no-annotate

.PHONY: clean
clean: ## Remove what was built and installed here, but for build/image/keys
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	@# Cards that were flashed from here take bundles of those keys and of no others.
	@for each in build/* build/.[!.]* build/image/* build/image/.[!.]*; do \
	  case "$$each" in build/image|build/image/keys) ;; *) rm -rf "$$each" ;; esac; \
	done
	@rmdir build/image build 2>/dev/null || true

# Debian packages that are not there yet are installed; as root, or else through sudo.
define debian
@missing=""; \
for package in $(1); do \
  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' \
    || missing="$$missing $$package"; \
done; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
if [ -n "$$missing" ]; then \
  echo "Installing from Debian:$$missing"; \
  if [ "$$(id -u)" = 0 ]; then as=""; else as="sudo"; fi; \
  $$as apt-get update -qq && \
  $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    $$missing >/dev/null || { \
      echo "Could not install$$missing: install them by hand, then run make again." >&2; exit 1; }; \
fi
endef

define python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3" >&2; exit 1; }
@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
@echo "Installing Python packages into $(VENV)"
@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

$(VENV)/.demo: pyproject.toml locks/demo.txt
	$(call debian,$(DEMO_PACKAGES))
	$(call python,locks/demo.txt)
	@touch $@

$(VENV)/.dev: pyproject.toml locks/dev.txt
	$(call debian,$(TEST_PACKAGES))
	$(call python,locks/dev.txt)
	@touch $@ $(VENV)/.demo
