# The few commands a developer types. `make` alone lists them.
CARGO ?= cargo
NPM ?= npm

.DEFAULT_GOAL := help
.PHONY: help run test dashboard test-dashboard screenshots bench bench-overload bench-incidents bench-micro docs lint packages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build the release binary and start the demo
	$(CARGO) build --release --locked
	./target/release/tidegate demo

test: packages ## unit, property, end-to-end and documentation tests
	$(CARGO) test --locked
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked --release --no-default-features --lib --target-dir target/loom interleavings
	$(MAKE) test-dashboard

test-dashboard: packages ## the page in a real Chromium, against the built binary; part of `make test`
	$(CARGO) build --locked
	$(NPM) --prefix dashboard ci --no-audit --no-fund
	node --test dashboard/test/*.test.mjs

dashboard: packages ## build the page that the binary embeds: dashboard/dist, which is committed
	$(NPM) --prefix dashboard ci --no-audit --no-fund
	$(NPM) --prefix dashboard run build

screenshots: packages ## take the README's pictures of the demo's story
	$(CARGO) build --release --locked
	$(NPM) --prefix dashboard ci --no-audit --no-fund
	node dashboard/screenshots.mjs

bench: packages ## measure against nginx and HAProxy; BENCH="--rounds 3 --only get-1k" narrows it
	$(CARGO) bench --locked --bench end_to_end -- $(BENCH)

bench-overload: packages ## goodput and victims under overload; BENCH="--seconds 5 --scenario 10x,flood" narrows it
	$(CARGO) bench --locked --bench overload -- $(BENCH)

bench-incidents: packages ## what the proxy says is wrong, against injected faults; BENCH="--seeds 5 --only Slow" narrows it
	$(CARGO) bench --locked --bench incidents -- $(BENCH)

bench-micro: ## nanoseconds of each policy; BENCH="breaker" narrows it
	$(CARGO) bench --locked --no-default-features --bench micro -- $(BENCH)

docs: ## write the configuration's reference anew from the schema; mdbook serve docs shows the book
	TIDEGATE_WRITE_DOCS=1 $(CARGO) test --locked --test docs reference

lint: ## formatting, clippy, documentation, and the core and the layers built alone
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) check --locked --lib --no-default-features
	$(CARGO) check --locked --lib --no-default-features --features layer
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps

packages: ## install what the tests and the benchmark need (apt-get)
	./scripts/install-test-packages.sh
