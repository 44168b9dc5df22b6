# For developers: builds, tests and packages the daemon. `make help` lists the targets. `make test`
# needs root only to install missing packages; `make test-system` always needs root.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: test check help fmt clippy doc book spelling doc-tools rust erlang ct deps test-long crash siege simulate bench scale test-system test-users \
  test-openapi test-others test-suites test-suites-quick suites-deps test-otp test-deploy fuzz-smoke fuzz fuzz-deps static package deny sbom release

# The programs that the tests run, and the Debian packages that contain them.
PROGRAMS := erl erlc epmd rebar3 dialyzer elixir git curl node perl python3 strace systemd-analyze prlimit
PACKAGES := erlang-base erlang-runtime-tools erlang-dev erlang-common-test erlang-eunit erlang-tools erlang-dialyzer erlang-edoc erlang-ssl rebar3 elixir git curl nodejs perl python3 \
  strace systemd util-linux python3-venv

test: deps fmt clippy doc book spelling rust erlang ct ## Run all checks and tests that need no root (installs missing packages)

# Fast enough for every change: builds no integration test, and skips the unit tests that take most
# of the time.
SLOW_UNIT_TESTS := ::properties:: ::cost:: ::leftovers:: ::salvage:: the_number_of_elements_is_bounded \
  both_sides_keep_the_same_connection monitors_and_links_of_a_peer_are_bounded many_registrations_share_commits \
  aside_names_run_out plugins_are_bounded
check: fmt ## Check formatting and lints, and run the quick unit tests
	cargo clippy --all-features -- -D warnings
	cargo test --lib -- $(SLOW_UNIT_TESTS:%=--skip %)

# Reads the text after `##` of each target, in the order of this file.
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done

deps: ## Install the programs that `make test` needs, with apt
	@missing=; for program in $(PROGRAMS); do command -v $$program >/dev/null || missing=1; done; \
	python3 -c 'import ensurepip' 2>/dev/null || missing=1; \
	if [ -n "$$missing" ] || ! erl -noshell -eval '[{module, _} = code:load_file(M) || M <- [ct, xref, edoc, ssl]], halt().' >/dev/null 2>&1; then \
	  install="apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(PACKAGES)"; \
	  if [ "$$(id -u)" = 0 ]; then sh -c "$$install"; \
	  elif sudo -n true 2>/dev/null; then sudo -n sh -c "$$install"; \
	  else echo "The tests need $(PROGRAMS). As root, run: $$install" >&2; exit 1; fi; \
	fi

fmt: ## Check the formatting of the Rust sources
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml

clippy: ## Run Clippy on all Rust targets; a warning is an error
	cargo clippy --all-targets --all-features -- -D warnings
	cargo clippy --lib --bins -- -D warnings # as programs are built: without the feature `internals`

doc: ## Build the API documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# `docs/requirements.txt` pins the two programs.
DOC_TOOLS := $(HOME)/.cache/hecate-daemon/doc-tools-$(shell sha256sum docs/requirements.txt | cut -c1-12)
doc-tools: deps ## Install mdBook and the spell checker, in a separate virtual environment
	@[ -x $(DOC_TOOLS)/bin/mdbook ] && [ -x $(DOC_TOOLS)/bin/typos ] || { \
	  python3 -m venv $(DOC_TOOLS) && $(DOC_TOOLS)/bin/pip install --quiet --require-hashes -r docs/requirements.txt; }

# `tests/tidy/documents.rs` checks the links of the pages.
book: doc-tools ## Build docs/ as a book, in target/book
	MDBOOK_OUTPUT__HTML__GIT_REPOSITORY_URL=$$(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml) \
	  $(DOC_TOOLS)/bin/mdbook build docs --dest-dir $${CARGO_TARGET_DIR:-$(CURDIR)/target}/book

spelling: doc-tools ## Check the spelling of sources and documents
	$(DOC_TOOLS)/bin/typos

rust: deps ## Run all Rust tests that need no root
	tests/run.sh
	cargo test --doc

# Dialyzer caches its analysis of OTP below ~/.cache.
erlang: deps ## Check the Erlang sources with xref, Dialyzer and EDoc
	rebar3 do xref, dialyzer, edoc

test-long: deps ## Run the slow tests of disk faults that `make test` leaves out
	cargo test --test faults -- --ignored

# The suites run the binary of `cargo test`. Building the same targets avoids a second compilation.
ct: deps ## Run the Common Test suites in erlang_test/
	cargo build --all-targets
	HECATE_DAEMON_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/hecate-daemon" rebar3 ct

# Each run makes random choices, and prints the setting that repeats them.
crash: deps ## Kill the daemon 2,000 times under load, ten times as often as `make test`
	HECATE_CRASHES=2000 cargo test --test crash -- --nocapture

# Runs all attacks of tests/siege and prints the losses and response times of a well-behaved client.
# Fails if a call is lost or the 99th percentile is 250 ms or more.
SIEGE_SECONDS := 600
siege: deps ## Run all attacks at once for 10 minutes beside a well-behaved client
	HECATE_SIEGE=$(SIEGE_SECONDS) nice -n 19 cargo test --release --test siege -- --ignored --nocapture

# Takes about 15 minutes and 3 GiB of memory.
simulate: ## Simulate a cluster of 1,000 nodes without sockets
	cargo test --profile simulation --test simulation -- --ignored --nocapture

# See docs/internals/benchmarks.md. The measured C node needs erlang-dev, which `deps` installs only
# if `erl` is missing.
bench: deps ## Run the benchmarks
	@[ -e /usr/include/ei.h ] || { \
	  [ "$$(id -u)" = 0 ] || { echo "make bench needs erlang-dev: install it, or run it as root" >&2; exit 1; }; \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends erlang-dev gcc libc6-dev; \
	}
	cargo bench --bench '*'

# A cluster of 100 daemons takes about 2 GiB of memory and 1 minute.
SIZES := 10 25 50 100
scale: deps ## Measure clusters of up to 100 daemons on this machine
	cargo bench --bench scale -- $(SIZES)

# Does not check advisories, because not every machine can reach their database. `make deny` does.
test-system: ADVISORIES := skip
test-system: test-users test-openapi test-others test-suites-quick test-deploy package deny test-otp fuzz-smoke ## Run the tests that need root (installs missing packages)

test-users: deps ## Run the tests that act as several users and hosts (root)
	@[ "$$(id -u)" = 0 ] || { echo "make test-users acts as several users and hosts: run it as root" >&2; exit 1; }
	@command -v ip >/dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iproute2; }
	cargo test --features system-tests --test system --test namespaces --test dns --test hosts

# Schemathesis comes from PyPI and is installed in a separate virtual environment.
SCHEMATHESIS := $(HOME)/.cache/hecate-daemon/schemathesis-4.32.5
test-openapi: deps ## Test the API against openapi.json with Schemathesis
	@[ -x $(SCHEMATHESIS)/bin/schemathesis ] || { \
	  python3 -m venv $(SCHEMATHESIS) && $(SCHEMATHESIS)/bin/pip install --quiet schemathesis==4.32.5; }
	SCHEMATHESIS=$(SCHEMATHESIS)/bin/schemathesis cargo test --features system-tests --test schemathesis

# The C and Java nodes use Debian's ei and jinterface.
OTHERS := elixir erlang-dev erlang-jinterface gcc libc6-dev default-jdk-headless
test-others: deps ## Test with nodes in Elixir, C and Java
	@missing=; for program in elixir cc javac; do command -v $$program >/dev/null || missing=1; done; \
	for file in /usr/include/ei.h /usr/share/java/OtpErlang.jar; do [ -e $$file ] || missing=1; done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "make test-others needs $(OTHERS): run it as root" >&2; exit 1; }; \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(OTHERS); \
	fi
	cargo test --features system-tests --test others

# Checks the manifests with kubectl, kubernetes-validate, Quadlet's generator and systemd, and runs
# the static binary in pods.
DEPLOY := binutils busybox iproute2 libcap2-bin python3-venv
test-deploy: deps static ## Test deploy/, `gitops` and the static binary (root)
	@[ "$$(id -u)" = 0 ] || { echo "make test-deploy makes pods: run it as root" >&2; exit 1; }
	@missing=; for program in readelf busybox ip capsh; do command -v $$program >/dev/null || missing=1; done; \
	python3 -c 'import ensurepip' 2>/dev/null || missing=1; \
	if [ -n "$$missing" ]; then \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(DEPLOY); \
	fi
	HECATE_DEPLOY_TOOLS=$$(tests/deploy/tools.sh) HECATE_STATIC_BINARY=$(STATIC) cargo test --features system-tests --test deploy

# The binary of the container image.
STATIC_TARGET := $(shell uname -m)-unknown-linux-musl
STATIC := $${CARGO_TARGET_DIR:-$(CURDIR)/target}/$(STATIC_TARGET)/release/hecate-daemon
static: ## Build the statically linked release binary with musl
	@command -v musl-gcc >/dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends musl-tools; }
	rustup target add $(STATIC_TARGET)
	TARGET_CC=musl-gcc cargo build --release --locked --target $(STATIC_TARGET)

# Builds from the committed files. `publish = false` is removed from the copy: with it, cargo cannot
# build one package against the other. The target directory, which contains the registry of the two
# packages, must have a new path each time: cargo finds what it unpacked and built earlier by that
# path, and never compares it with the present packages.
package: ## Build the packages of both crates as crates.io would receive them
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy" "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/-*/beam-node-*' EXIT; \
	git archive HEAD | tar -x -C "$$copy"; \
	sed -i '/^publish = false$$/d' "$$copy/Cargo.toml" "$$copy/src/beam/Cargo.toml"; \
	CARGO_PROFILE_DEV_DEBUG=0 cargo package --workspace --locked --manifest-path "$$copy/Cargo.toml" --target-dir "$$copy/target"

# Applies deploy/deny.toml. The advisory database is a Git repository on GitHub: where it cannot be
# fetched, the target fails. `make deny ADVISORIES=skip` leaves out advisories and yanked crates.
CARGO_DENY := 0.20.2
DENY := cargo deny --locked --config deploy/deny.toml
ADVISORIES := check
deny: ## Check licences, sources, bans and advisories of the dependencies
	@cargo deny --version 2>/dev/null | grep -qF " $(CARGO_DENY)" || cargo install --locked cargo-deny@$(CARGO_DENY)
	$(DENY) check --hide-inclusion-graph bans licenses sources
	@if [ "$(ADVISORIES)" = skip ]; then \
	  echo "deny: advisories and yanked crates were not checked (ADVISORIES=skip)"; \
	elif $(DENY) fetch db; then $(DENY) check advisories; \
	else echo "deny: cannot fetch the advisory database; to leave it out: make deny ADVISORIES=skip" >&2; exit 1; fi

# Writes target/hecate-daemon.cdx.json.
CARGO_CYCLONEDX := 0.5.9
sbom: ## Write the bill of materials of the image (CycloneDX)
	@cargo cyclonedx --version 2>/dev/null | grep -qF " $(CARGO_CYCLONEDX)" || cargo install --locked cargo-cyclonedx@$(CARGO_CYCLONEDX)
	cargo cyclonedx --format json --spec-version 1.5 --target $(STATIC_TARGET) --override-filename hecate-daemon.cdx
	mv hecate-daemon.cdx.json $${CARGO_TARGET_DIR:-$(CURDIR)/target}/

release: ## Check and build everything that a release contains, from the committed files
	@[ -z "$$(git status --porcelain)" ] || { echo "make release: commit first" >&2; exit 1; }
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1); grep -qF "## [$$version] - " CHANGELOG.md || \
	  { echo "make release: CHANGELOG.md has no section for $$version" >&2; exit 1; }
	$(MAKE) package deny sbom static

# OTP 27 and 29 come from Debian, OTP 28 from PyPI. `make test` covers the installed release.
RELEASES := trixie 28 sid
# Needs a compiler, which the OTP 28 of PyPI lacks.
COMPILING := etf_oracle
ERLANG_FACING := boot cluster diagnosis epmd handshake headers hostile introductions layout mesh peers pg pressure rpc signals status ticks tools trace walk
test-otp: deps ## Run the tests that use real Erlang nodes with OTP 27, 28 and 29 (root)
	@[ "$$(id -u)" = 0 ] || { echo "make test-otp unpacks other releases: run it as root" >&2; exit 1; }
	{ command -v debootstrap && python3 -c 'import ensurepip'; } >/dev/null 2>&1 || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap python3-venv; }
	for release in $(RELEASES); do \
	  bin=$$(tests/releases.sh $$release); \
	  PATH="$$bin:$$PATH" tests/run.sh $(ERLANG_FACING:%=--test %) $$([ $$release = 28 ] || echo --test $(COMPILING)); \
	  HECATE_ERL="$$bin/erl" $(MAKE) ct; \
	done
	cargo test --features system-tests --test releases

# Takes about 30 minutes. The sources of the suites come from Debian's source packages: see
# tests/suites/run.sh.
test-suites: suites-deps ## Run suites of OTP 25 and 27 with and without the daemon, and write docs/internals/suites.md (root)
	HECATE_DAEMON_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/hecate-daemon" tests/suites/run.sh

test-suites-quick: suites-deps ## Run three suites of OTP 25, in about 3 minutes (root)
	HECATE_DAEMON_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/hecate-daemon" tests/suites/run.sh quick

SUITES := erlang-dev erlang-common-test erlang-eunit erlang-runtime-tools debootstrap gcc iproute2 libc6-dev xz-utils
suites-deps: deps ## Install the packages that the suites of OTP need, and build the daemon (root)
	@[ "$$(id -u)" = 0 ] || { echo "make test-suites creates hosts: run it as root" >&2; exit 1; }
	@missing=; for program in cc debootstrap ip xz; do command -v $$program >/dev/null || missing=1; done; \
	[ -e /usr/include/ei.h ] || missing=1; \
	if [ -n "$$missing" ]; then \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(SUITES); \
	fi
	cargo build --all-targets

# Each target starts from its committed corpus. New inputs are kept in fuzz/target/corpus. Inputs
# that fail are kept in fuzz/artifacts. The crates have no unsafe code, so no sanitizer and no
# nightly toolchain is needed.
CARGO_FUZZ := 0.13.2
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS := 600
fuzz: fuzz-deps ## Fuzz each target for 10 minutes (FUZZ_SECONDS)
	cargo fuzz build --sanitizer none
	for target in $(FUZZ_TARGETS); do \
	  dictionary=fuzz/dictionaries/$$target.dict; \
	  mkdir -p fuzz/target/corpus/$$target; \
	  echo "fuzzing $$target"; \
	  cargo fuzz run --sanitizer none $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=30 -print_final_stats=1 -verbosity=0 \
	    $$([ ! -e $$dictionary ] || echo -dict=$$dictionary); \
	done

fuzz-smoke: ## Fuzz each target for 12 seconds
	$(MAKE) fuzz FUZZ_SECONDS=12

fuzz-deps: ## Install cargo-fuzz and a C++ compiler
	@cargo fuzz --version 2>/dev/null | grep -qF " $(CARGO_FUZZ)" || cargo install --locked cargo-fuzz@$(CARGO_FUZZ)
	@command -v c++ >/dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++; }
