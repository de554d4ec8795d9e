# Chores. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# In CI what is built stays outside the checkout, so that a fresh clone is warm.
ifeq ($(CI),true)
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(shell .ci/target $$PPID)
endif
endif

# Every test but the end-to-end ones, which need the lab, the figures, and the model, which wants an
# optimized build.
TESTS := $(filter-out bench e2e model,$(basename $(notdir $(wildcard tests/*.rs) $(patsubst %/main.rs,%,$(wildcard tests/*/main.rs)))))
LAB := cargo run -q -p serin-lab --
# What a table was taken at.
COMMIT = $$(git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: lab-tools ## A good release promoted, a bad one rolled back, live (FAST=1: without pauses; STRATEGY=bluegreen, or rolling)
	cargo build -p serin -p serin-demo
	@cargo run -q -p serin-demo

.PHONY: build
build: cargo ## The controller: target/debug/serin
	cargo build --bin serin

.PHONY: test
test: lab-tools fast small-world sim e2e ## All that must pass: unit, scenarios, rules, the small world, the simulation, then end to end in the lab

.PHONY: fast
fast: cargo ## The tests that need no cluster
	cargo test --no-fail-fast --lib --bins $(TESTS:%=--test %)
	cargo test -p serin-lab --lib

.PHONY: small-world
small-world: cargo ## Every state of a small world around the real plan, as many as fit a minute
	cargo test --profile figures --no-default-features --test model

.PHONY: model
model: cargo ## The same as far as this machine reaches; the table goes to tests/model/TABLE.md (CASE=name: one strategy)
	@mkdir -p target/model; status=0; \
	MODEL=far cargo test --profile figures --no-default-features --test model every_state -- --nocapture 2>&1 \
	  | tee target/model/last.log || status=$$?; \
	{ printf '# The small world at %s\n\n`make model` writes this table: every state was visited, every law held at every write, and from every state there is a way home without a circle.\n\n' \
	    "$(COMMIT)"; \
	  sed -n '/^|/p' target/model/last.log; \
	  printf '\n'; grep '^test result:' target/model/last.log || echo 'not finished'; } > tests/model/TABLE.md; \
	echo "written to tests/model/TABLE.md"; exit $$status

.PHONY: mutants
mutants: cargo ## src/engine broken in N=300 ways drawn by SEED=1: what the fast tests miss; the table goes to tests/mutants/TABLE.md (AGAIN=1: only what was missed)
	@command -v python3 > /dev/null || { echo "python3 is missing (Debian: apt-get install python3)" >&2; exit 1; }
	@python3 tests/mutants/run.py

.PHONY: fuzz
fuzz: cargo ## What strangers can write, thrown at Serin for FOR=600 seconds a target (TARGET=name: one); the table goes to tests/fuzz/TABLE.md
	@command -v python3 > /dev/null || { echo "python3 is missing (Debian: apt-get install python3)" >&2; exit 1; }
	@python3 tests/fuzz/run.py

.PHONY: sim
sim: cargo ## The real controller in a simulated world (SEEDS=n, FROM=n; REPLAY=n: one seed with its log, WITHOUT=parts: less of it; PLANS=1: every plan; PLAN=name: one with its log; SCENARIOS=1: every scenario; SCENARIO=name or file: one with its log)
	$(if $(REPLAY)$(PLAN)$(PLANS)$(SCENARIO)$(SCENARIOS),,cargo test -q --profile figures -p serin-sim)
	cargo run -q --profile figures -p serin-sim -- $(if $(REPLAY),--seed $(REPLAY) --without "$(WITHOUT)",$(if $(PLAN),--plan $(PLAN),$(if $(PLANS),--plans,$(if $(SCENARIO),--scenario "$(SCENARIO)",$(if $(SCENARIOS),--scenarios,--seeds $(or $(SEEDS),1000) --from $(or $(FROM),0))))))
	$(if $(REPLAY)$(PLAN)$(PLANS)$(SCENARIO)$(SCENARIOS),,cargo run -q --profile figures -p serin-sim -- --scenarios)

# Seeds that no test run plays.
.PHONY: sim-full
sim-full: cargo ## SEEDS=200000 seeds and every plan, by hand; the table goes to tests/sim/TABLE.md
	@printf '# The simulation at %s\n\n`make sim-full` writes this table.\n' "$(COMMIT)" > tests/sim/TABLE.md; status=0; \
	for what in "--seeds $(or $(SEEDS),200000) --from 1000000" --plans; do \
	  cargo run -q --profile figures -p serin-sim -- $$what --table tests/sim/TABLE.md || status=$$?; \
	done; \
	echo "written to tests/sim/TABLE.md"; exit $$status

.PHONY: coverage
coverage: cargo ## Which branches of the rules SEEDS=2000 seeds and every plan take, by hand; the table goes to tests/sim/COVERAGE.md
	@mkdir -p target
	@SEEDS=$(or $(SEEDS),2000) tests/sim/coverage.sh > target/coverage.md
	@{ printf '# Branches at %s\n\n`make coverage` writes this table: which branches of the rules %s seeds and every plan of the simulation take.\n\n' \
	    "$(COMMIT)" "$(or $(SEEDS),2000)"; cat target/coverage.md; } > tests/sim/COVERAGE.md
	@echo "written to tests/sim/COVERAGE.md"

.PHONY: soak
soak: cargo ## A simulated fortnight of SOAK=200 Rollouts with a release an hour each, by hand; the table goes to tests/sim/SOAK.md
	@printf '# The soak at %s\n\n`make soak` writes this table.\n' "$(COMMIT)" > tests/sim/SOAK.md; status=0; \
	cargo run -q --profile figures -p serin-sim -- --soak $(or $(SOAK),200) --table tests/sim/SOAK.md || status=$$?; \
	echo "written to tests/sim/SOAK.md"; exit $$status

.PHONY: scenarios
scenarios: cargo ## The scenarios on the virtual cluster (UPDATE=1 writes their timelines anew)
	cargo test --test scenarios

.PHONY: e2e
e2e: lab-tools ## End to end: the core and what SEED picks (E2E=full: all; CASE=name: one)
	cargo build --profile figures -p serin-sim
	cargo test --test e2e -- $(CASE)

.PHONY: e2e-full
e2e-full: lab-tools ## End to end: everything; the table goes to tests/e2e/TABLE.md
	cargo build --profile figures -p serin-sim
	@mkdir -p target/e2e; status=0; rm -f target/e2e/last.log; \
	for mode in full alone; do \
	  E2E=$$mode cargo test --test e2e 2>&1 | tee -a target/e2e/last.log || status=$$?; \
	done; \
	{ printf '# End to end at %s\n\n`make e2e-full` writes this table.\n\n| Test | | Seconds |\n|---|---|---|\n' \
	    "$(COMMIT)"; \
	  sed -nE 's/^test ([a-z0-9_:]+) \.\.\. (ok|FAILED) \(([0-9.]+) s\)$$/| \1 | \2 | \3 |/p' target/e2e/last.log; \
	  printf '\n'; grep '^test result:' target/e2e/last.log || echo 'not finished'; } > tests/e2e/TABLE.md; \
	echo "written to tests/e2e/TABLE.md"; exit $$status

.PHONY: hostile
hostile: lab-tools ## End to end in a hostile world, fault by fault (SEED=n: the dice); the table goes to tests/e2e/HOSTILE.md
	@mkdir -p target/e2e; status=0; \
	E2E=hostile SEED=$(or $(SEED),1) cargo test --test e2e 2>&1 | tee target/e2e/hostile.log || status=$$?; \
	{ printf '# A hostile world at %s\n\n`make hostile SEED=%s` writes this table; docs/reliability.md says what it means.\n\n' "$(COMMIT)" "$(or $(SEED),1)"; \
	  printf '| Fault | Requests | Failed | explained | unexplained | Struck | Serin ended | Canary | Blue-green | Laws | Seconds |\n|---|---|---|---|---|---|---|---|---|---|---|\n'; \
	  sed -n '/^| /p' target/e2e/hostile.log; \
	  printf '\n'; grep '^test result:' target/e2e/hostile.log || echo 'not finished'; } > tests/e2e/HOSTILE.md; \
	echo "written to tests/e2e/HOSTILE.md"; exit $$status

.PHONY: bench
bench: lab-tools ## Figures: requests, times, memory (FIGURE=name: one group; SIZE=small: a quick look; MOST=3000: fewer at rest, LEAST=10000: only so many; FIGURE=soak, never taken unasked: an hour of releases, or MINUTES=n)
	cargo test --profile figures --test bench

.PHONY: check
check: lab-tools ## What CI runs: format, lints, chart, then `make test`
	cargo fmt --all --check
	cargo check --no-default-features
	$(MAKE) lint
	$(MAKE) chart
	$(MAKE) test

.PHONY: fmt
fmt: cargo ## Format the code
	cargo fmt --all

.PHONY: lint
lint: cargo ## Clippy, with the shell and without it
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p serin --no-default-features --all-targets --test model -- -D warnings

# Not in CI: it wants a tool that takes minutes to build, and a database from elsewhere.
.PHONY: audit
audit: cargo ## cargo-deny on deny.toml, with the advisories as they are today
	@command -v cargo-deny > /dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	@cargo deny fetch db > /dev/null 2>&1 || { echo "the database of advisories is out of reach" >&2; exit 1; }
	cargo deny check

.PHONY: chart
chart: lab-tools ## Lint the chart, and render it in each of its modes
	@helm=$$($(LAB) prepare | sed -n 's/^Helm: //p'); \
	for values in "" "namespaces={a,b}" "namespaces={a},rbac.clusterRoles=false" "commandPolicy.enabled=true" "rbac.create=false" \
	  "crds.install=false,serviceAccount.create=false,service.enabled=false" \
	  "replicas=2,metricProviders.default=http://prometheus:9090,alertmanager.url=http://alertmanager:9093" \
	  "serviceMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true,networkPolicy.enabled=true"; do \
	  echo "helm lint --strict charts/serin --set '$$values'"; \
	  "$$helm" lint --strict --quiet charts/serin --set "$$values"; \
	  "$$helm" template serin charts/serin --namespace serin --set "$$values" > /dev/null; \
	done; \
	for values in docs/examples/values*.yaml; do \
	  echo "helm lint --strict charts/serin --values $$values"; \
	  "$$helm" lint --strict --quiet charts/serin --values "$$values"; \
	done

# The binary as the image has it: static, for this machine's architecture.
HOST := $(shell uname -m)-unknown-linux-gnu
STATIC := $(or $(CARGO_TARGET_DIR),target)/$(HOST)/$(or $(PROFILE),release)/serin

.PHONY: image-binary
image-binary: cargo ## The image's binary, built as in the Dockerfile and tried: static, and it runs (PROFILE=debug: quick)
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --bin serin --target $(HOST) $(if $(filter debug,$(PROFILE)),,--release)
	@if ldd $(STATIC) 2>&1 | grep -Ev 'statically linked|not a dynamic executable'; then echo "$(STATIC) wants libraries" >&2; exit 1; fi
	@if readelf --program-headers $(STATIC) | grep -w INTERP; then echo "$(STATIC) wants a loader" >&2; exit 1; fi
	@root=$$(mktemp -d); trap 'rm -r "$$root"' EXIT; cp $(STATIC) "$$root/serin"; \
	echo "in a root with no other file:"; env -i $$(command -v unshare) --map-root-user --root="$$root" /serin version
	@ls -l --block-size=KiB $(STATIC)

# What paths leave in a binary is written as the Dockerfile's.
REMAP = --remap-path-prefix=$(1)=/src --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/usr/local/cargo \
  --remap-path-prefix=$$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$$(rustc -vV | sed -n 's/^commit-hash: //p')

.PHONY: reproducible
reproducible: cargo ## The image's binary of the commit, built in two folders: the sums must be the same (two releases' time)
	@root=$$(mktemp -d $(or $(TMPDIR),/tmp)/serin-XXXXXX); trap 'rm -rf "$$root"' EXIT; \
	for folder in "$$root/one" "$$root/two/with/a/longer/path"; do \
	  mkdir -p "$$folder"; git archive HEAD | tar -x -C "$$folder"; \
	  (cd "$$folder"; RUSTFLAGS="-C target-feature=+crt-static $(call REMAP,$$folder)" CFLAGS="-ffile-prefix-map=$$folder=/src" \
	    cargo build --quiet --locked --bin serin --target $(HOST) --target-dir "$$folder/target" $(if $(filter debug,$(PROFILE)),,--release)); \
	  cp "$$folder/target/$(HOST)/$(or $(PROFILE),release)/serin" "$$root/serin-$${#folder}"; rm -rf "$$folder"; \
	done; \
	(cd "$$root"; sha256sum serin-*); \
	if grep -aqF "$$root" "$$root"/serin-*; then echo "the folder it was built in stands in the binary" >&2; exit 1; fi; \
	cmp "$$root"/serin-* && echo "the same"

# Signing and publishing are in docs/releasing.md.
.PHONY: sbom
sbom: cargo ## What is in the binary, as CycloneDX: target/serin.cdx.json (SBOM=file: elsewhere)
	@mkdir -p target
	SBOM=$(or $(SBOM),target/serin.cdx.json) cargo test -q --test sbom

.PHONY: image-test
image-test: image-binary lab-tools ## The image's binary, installed by the chart in the lab
	SERIN_BINARY=$(abspath $(STATIC)) cargo test --test e2e -- installed_in_a_namespace

.PHONY: generate
generate: cargo ## Write anew what is generated: crds, the chart's roles, the reference, Argo CD's ConfigMap
	UPDATE=1 cargo test -q --test generated
	UPDATE=1 cargo test -q --test lua config_map

.PHONY: lab
lab: lab-tools build ## A shell in a lab: a real cluster with a gateway, Prometheus and Alertmanager
	@$(LAB) shell

.PHONY: clean
clean: cargo ## Remove what was built (not the lab's parts, which stay in the user's cache)
	cargo clean

# What must be on the machine, said in one line.
.PHONY: cargo lab-tools
cargo:
	@command -v cargo > /dev/null || { echo "cargo is missing: install Rust 1.89 or newer, see https://rustup.rs" >&2; exit 1; }

lab-tools: cargo
	@command -v go > /dev/null || { echo "go is missing: install Go, see https://go.dev/doc/install" >&2; exit 1; }
	@command -v python3 > /dev/null || command -v envoy > /dev/null || { echo "python3 is missing (Debian: apt-get install python3 python3-pip)" >&2; exit 1; }
