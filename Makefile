# `make test` needs no root, unless something has to be installed first; `make test-system` needs it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: test simulate bench scale test-system test-users test-openapi test-others test-suites test-suites-quick test-otp test-deploy static package deny sbom release test-long crash siege fuzz fuzz-smoke fuzz-deps deps fmt clippy doc rust erlang ct

# What Debian calls the programs that the tests run, and what Erlang they need beside erl itself.
PROGRAMS := erl erlc epmd rebar3 dialyzer elixir git curl strace systemd-analyze prlimit
PACKAGES := erlang-base erlang-dev erlang-common-test erlang-eunit erlang-tools erlang-dialyzer erlang-edoc erlang-ssl rebar3 elixir git curl \
  strace systemd util-linux

test: deps fmt clippy doc rust erlang ct

deps:
	@missing=; for program in $(PROGRAMS); do command -v $$program >/dev/null || missing=1; done; \
	if [ -n "$$missing" ] || ! erl -noshell -eval '[{module, _} = code:load_file(M) || M <- [ct, xref, edoc, ssl]], halt().' >/dev/null 2>&1; then \
	  install="apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(PACKAGES)"; \
	  if [ "$$(id -u)" = 0 ]; then sh -c "$$install"; \
	  elif sudo -n true 2>/dev/null; then sudo -n sh -c "$$install"; \
	  else echo "The tests need $(PROGRAMS). As root, run: $$install" >&2; exit 1; fi; \
	fi

fmt:
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml

clippy:
	cargo clippy --all-targets --all-features -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

rust: deps
	tests/run.sh
	cargo test --doc

# What reads the Erlang side without running it. Dialyzer keeps what it knows of OTP below ~/.cache.
erlang: deps
	rebar3 do xref, dialyzer, edoc

# The tests of disk faults that `make test` leaves out because they take long.
test-long: deps
	cargo test --test faults -- --ignored

# The suites drive the binary that `cargo test` has built; the same targets, so that nothing is compiled twice.
ct: deps
	cargo build --all-targets
	HECATE_DAEMON_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/hecate-daemon" rebar3 ct

# Ten times the kills of `make test`; each run makes other choices, and says how to make the same again.
crash: deps
	HECATE_CRASHES=2000 cargo test --test crash -- --nocapture

# All attacks of tests/siege at once for ten minutes, beside a well-behaved client: prints what it lost, and how long its calls took.
# Fails if a call is lost or the 99th percentile is 250 ms or more.
SIEGE_SECONDS := 600
siege: deps
	HECATE_SIEGE=$(SIEGE_SECONDS) nice -n 19 cargo test --release --test siege -- --ignored --nocapture

# A thousand nodes as pure machines: about a quarter of an hour, and 3 GiB of memory.
simulate:
	cargo test --profile simulation --test simulation -- --ignored --nocapture

# Against what the work costs at least, in one run: see benches/README.md.
# The C node that is measured needs erlang-dev, which `deps` does not look for where there is an `erl`.
bench: deps
	@[ -e /usr/include/ei.h ] || { \
	  [ "$$(id -u)" = 0 ] || { echo "make bench needs erlang-dev: install it, or run it as root" >&2; exit 1; }; \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends erlang-dev gcc libc6-dev; \
	}
	cargo bench --bench '*'

# So many daemons in one cluster on this machine, one size after the other: 100 take some 2 GiB and a minute.
SIZES := 10 25 50 100
scale: deps
	cargo bench --bench scale -- $(SIZES)

test-system: test-users test-openapi test-others test-suites-quick test-deploy package deny test-otp fuzz-smoke

test-users: deps
	@[ "$$(id -u)" = 0 ] || { echo "make test-users acts as several users and hosts: run it as root" >&2; exit 1; }
	@command -v ip >/dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iproute2; }
	cargo test --features system-tests --test system --test namespaces --test dns --test hosts

# Schemathesis (from PyPI, in a place of its own) against the served openapi.json.
SCHEMATHESIS := $(HOME)/.cache/hecate-daemon/schemathesis-4.32.5
test-openapi:
	@[ -x $(SCHEMATHESIS)/bin/schemathesis ] || { \
	  python3 -c 'import ensurepip' 2>/dev/null || \
	    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv; }; \
	  python3 -m venv $(SCHEMATHESIS) && $(SCHEMATHESIS)/bin/pip install --quiet schemathesis==4.32.5; }
	SCHEMATHESIS=$(SCHEMATHESIS)/bin/schemathesis cargo test --features system-tests --test schemathesis

# Nodes in Elixir, C and Java, by Debian's libraries for them.
OTHERS := elixir erlang-dev erlang-jinterface gcc libc6-dev default-jdk-headless
test-others: deps
	@missing=; for program in elixir cc javac; do command -v $$program >/dev/null || missing=1; done; \
	for file in /usr/include/ei.h /usr/share/java/OtpErlang.jar; do [ -e $$file ] || missing=1; done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "make test-others needs $(OTHERS): run it as root" >&2; exit 1; }; \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(OTHERS); \
	fi
	cargo test --features system-tests --test others

# What deploy/ and `gitops` say, by kubectl, kubernetes-validate, Quadlet's generator and systemd; and the image's binary in pods.
DEPLOY := binutils busybox iproute2 libcap2-bin python3-venv
test-deploy: deps static
	@[ "$$(id -u)" = 0 ] || { echo "make test-deploy makes pods: run it as root" >&2; exit 1; }
	@missing=; for program in readelf busybox ip capsh; do command -v $$program >/dev/null || missing=1; done; \
	python3 -c 'import ensurepip' 2>/dev/null || missing=1; \
	if [ -n "$$missing" ]; then \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(DEPLOY); \
	fi
	HECATE_DEPLOY_TOOLS=$$(tests/deploy/tools.sh) HECATE_STATIC_BINARY=$(STATIC) cargo test --features system-tests --test deploy

# The binary of the image: linked with all that it needs, by musl.
STATIC_TARGET := $(shell uname -m)-unknown-linux-musl
STATIC := $${CARGO_TARGET_DIR:-$(CURDIR)/target}/$(STATIC_TARGET)/release/hecate-daemon
static:
	@command -v musl-gcc >/dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends musl-tools; }
	rustup target add $(STATIC_TARGET)
	TARGET_CC=musl-gcc cargo build --release --locked --target $(STATIC_TARGET)

# Packages of both crates, built from what is committed. `publish = false` is left out of the copy:
# with it, cargo cannot build one package against the other.
package:
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT; \
	git archive HEAD | tar -x -C "$$copy"; \
	sed -i '/^publish = false$$/d' "$$copy/Cargo.toml" "$$copy/src/beam/Cargo.toml"; \
	cargo package --workspace --locked --manifest-path "$$copy/Cargo.toml" \
	  --target-dir "$${CARGO_TARGET_DIR:-$(CURDIR)/target}"

# Licences, sources, bans and yanked crates, by deploy/deny.toml. Advisories come from a repository of their own, which not every
# machine reaches: where it can't be had, that is said, and nothing else hides it.
CARGO_DENY := 0.20.2
DENY := cargo deny --locked --config deploy/deny.toml
deny:
	@cargo deny --version 2>/dev/null | grep -qF " $(CARGO_DENY)" || cargo install --locked cargo-deny@$(CARGO_DENY)
	$(DENY) check --hide-inclusion-graph bans licenses sources
	if $(DENY) fetch db; then $(DENY) check advisories; else echo "deny: the database of advisories can't be reached: not checked"; fi

# The bill of materials of the image, in CycloneDX: target/hecate-daemon.cdx.json.
CARGO_CYCLONEDX := 0.5.9
sbom:
	@cargo cyclonedx --version 2>/dev/null | grep -qF " $(CARGO_CYCLONEDX)" || cargo install --locked cargo-cyclonedx@$(CARGO_CYCLONEDX)
	cargo cyclonedx --format json --spec-version 1.5 --target $(STATIC_TARGET) --override-filename hecate-daemon.cdx
	mv hecate-daemon.cdx.json $${CARGO_TARGET_DIR:-$(CURDIR)/target}/

# All that a release is made of, out of what is committed.
release:
	@[ -z "$$(git status --porcelain)" ] || { echo "make release: commit first" >&2; exit 1; }
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1); grep -qF "## [$$version] - " deploy/CHANGELOG.md || \
	  { echo "make release: deploy/CHANGELOG.md has no $$version" >&2; exit 1; }
	$(MAKE) package deny sbom static

# Whatever meets a real Erlang node, against the releases of two more suites of Debian, OTP 28 from PyPI, and clusters of several at
# once. The release that is installed is that of `make test`.
RELEASES := trixie 28 sid
# This one has a module compiled by the release that runs it.
COMPILING := etf_oracle
ERLANG_FACING := boot cluster diagnosis epmd handshake headers hostile introductions layout mesh peers pg pressure rpc signals status ticks tools walk
test-otp: deps
	@[ "$$(id -u)" = 0 ] || { echo "make test-otp unpacks other releases: run it as root" >&2; exit 1; }
	{ command -v debootstrap && python3 -c 'import ensurepip'; } >/dev/null 2>&1 || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap python3-venv; }
	for release in $(RELEASES); do \
	  bin=$$(tests/releases.sh $$release); \
	  PATH="$$bin:$$PATH" tests/run.sh $(ERLANG_FACING:%=--test %) $$([ $$release = 28 ] || echo --test $(COMPILING)); \
	  HECATE_ERL="$$bin/erl" $(MAKE) ct; \
	done
	cargo test --features system-tests --test releases

# Suites of OTP 25 and 27 with the daemon and without it, by case: about half an hour. Writes docs/suites.md.
# The test sources come from Debian's source packages: see tests/suites/run.sh.
test-suites: suites-deps
	HECATE_DAEMON_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/hecate-daemon" tests/suites/run.sh

# Three suites of OTP 25 alone, in about 2 minutes.
test-suites-quick: suites-deps
	HECATE_DAEMON_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/hecate-daemon" tests/suites/run.sh quick

SUITES := erlang-dev erlang-common-test erlang-eunit erlang-runtime-tools debootstrap gcc iproute2 libc6-dev xz-utils
.PHONY: suites-deps
suites-deps: deps
	@[ "$$(id -u)" = 0 ] || { echo "make test-suites makes hosts: run it as root" >&2; exit 1; }
	@missing=; for program in cc debootstrap ip xz; do command -v $$program >/dev/null || missing=1; done; \
	[ -e /usr/include/ei.h ] || missing=1; \
	if [ -n "$$missing" ]; then \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(SUITES); \
	fi
	cargo build --all-targets

# Each target of fuzz/ for so many seconds, beginning with its committed corpus. What else it comes upon is kept in
# fuzz/target/corpus, and an input that makes it fail in fuzz/artifacts.
# There is no unsafe code to be watched by a sanitizer, and without one neither is a nightly toolchain needed.
CARGO_FUZZ := 0.13.2
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS := 600
fuzz: fuzz-deps
	cargo fuzz build --sanitizer none
	for target in $(FUZZ_TARGETS); do \
	  dictionary=fuzz/dictionaries/$$target.dict; \
	  mkdir -p fuzz/target/corpus/$$target; \
	  echo "fuzzing $$target"; \
	  cargo fuzz run --sanitizer none $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=30 -print_final_stats=1 -verbosity=0 \
	    $$([ ! -e $$dictionary ] || echo -dict=$$dictionary); \
	done

fuzz-smoke:
	$(MAKE) fuzz FUZZ_SECONDS=12

fuzz-deps:
	@cargo fuzz --version 2>/dev/null | grep -qF " $(CARGO_FUZZ)" || cargo install --locked cargo-fuzz@$(CARGO_FUZZ)
	@command -v c++ >/dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++; }
