# Two commands: `make up` runs a cluster in the foreground, `make test` runs every test. Both first
# install what the build lacks (scripts/setup.sh). Everything is built with the one release profile,
# so that RocksDB compiles once.

SHELL := /bin/bash
# A Rust that set-up has just installed is not on the caller's PATH yet.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
CARGO_FLAGS := --release --locked

.PHONY: up test soak check setup
.DEFAULT_GOAL := up

# ARGS go to `enfilade up`: make up ARGS="--processes --s3 0.0.0.0:9000"
up: setup
	cargo build $(CARGO_FLAGS)
	@exec "$${CARGO_TARGET_DIR:-target}/release/enfilade" up $(ARGS)

# ARGS go to `cargo test`: make test ARGS="-p enfilade-placement"
test: setup
	cargo test $(CARGO_FLAGS) --workspace --no-fail-fast $(ARGS)

# The same tests with the long sequences and many seeds that do not fit into `make test`, then real
# processes: every pair of replica holders is killed once, all processes ten times, and the power is
# cut fifty times on a file system that forgets what was not synced; then 512 clients at once.
soak: setup
	ENFILADE_SOAK=1 cargo test $(CARGO_FLAGS) --workspace --no-fail-fast $(ARGS)
	cargo build $(CARGO_FLAGS)
	cargo run $(CARGO_FLAGS) -p chaos -- run enclosure-loss --pairs all
	cargo run $(CARGO_FLAGS) -p chaos -- run power-loss --rounds 10
	cargo run $(CARGO_FLAGS) -p chaos -- run power-cut --cuts 50
	cargo run $(CARGO_FLAGS) -p chaos -- run memory

# Everything that the gate checks.
check:
	@.ci/run

setup:
	@scripts/setup.sh
	@scripts/steady-times.sh
