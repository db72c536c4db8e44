# `make demo` shows the product, `make test` proves it. `make help` lists the rest.

TOOLS := $(CURDIR)/.tools
VENV := $(TOOLS)/venv/bin
STEP := tests/step
COMPONENTS := tests/components
# What `make fuzz` feeds, and for how long.
FUZZ ?= scan
FUZZ_SECONDS ?= 600
# The page comes before whatever compiles the server, which has it inside.
STEPS := install web fmt clippy tests-built rust proto clients grpc-web grafana typescript page
# What the page is built from. Nothing is built anew without need: the server would be as well.
PAGE_SOURCES := $(wildcard web/*.* web/src/*.* web/src/*/*.* proto/ringfeed/v1/*.proto \
	clients/typescript/*.json clients/typescript/*.yaml clients/typescript/src/*.ts)
# Without writing bytecode beside the tests, and with the tools the tests bring.
export PYTHONDONTWRITEBYTECODE := 1
export PATH := $(VENV):$(TOOLS)/bin:$(PATH)

# Steps run in their order, and cargo once at a time.
.NOTPARALLEL:
.PHONY: help demo web build tests-built test torture fuzz peers install fmt clippy rust proto components clients grpc-web grafana typescript page proto-release clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo: web ## Build, and see the product on real stock and sensor data until Ctrl-C
	cargo run --release -- demo $(DEMO)

web: ## Build the page, for the server that is built after it
	@if command -v npm >/dev/null; \
	then $(MAKE) --no-print-directory --silent web/dist/index.html; \
	else echo "no npm: the server shows its plain status page"; fi

web/dist/index.html: $(PAGE_SOURCES)
	@$(STEP) web npm --prefix web run --silent install-and-build

build: ## Build the server and the command line: target/release/ringfeed
	@$(STEP) build cargo build --release

# The tests' own dependencies switch features of shared ones on, so a plain build beside them would
# compile most crates twice. This makes target/release/ringfeed as well.
tests-built:
	@$(STEP) build cargo test --release --no-run

test: ## Install what the tests need, then run every check and test
	@rm -rf $(TOOLS)/results
	@$(MAKE) --no-print-directory -k $(STEPS); code=$$?; $(STEP) --total; exit $$code

torture: export TEST_TORTURE := 1
torture: test ## The same with the long forms: more kills, larger rings, longer runs

peers: ## The bench's work on NATS, Redis Streams and s2-lite too: writes docs/benchmarks.md
	benches/peers/run

fuzz: ## Feed FUZZ=scan (or message) any bytes beside what must agree with it, FUZZ_SECONDS=600
	@cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --root $(TOOLS)
	@mkdir -p fuzz/corpus/$(FUZZ) fuzz/seeds/$(FUZZ)
	cargo fuzz run --sanitizer none $(FUZZ) fuzz/corpus/$(FUZZ) fuzz/seeds/$(FUZZ) -- \
		-max_total_time=$(FUZZ_SECONDS) -max_len=2000

install: # A virtual environment, npm packages and Prometheus below .tools and node_modules; Chromium
	@$(STEP) install $(COMPONENTS)/install $(TOOLS)

fmt:
	@$(STEP) fmt cargo fmt --check -- --color never

clippy:
	@$(STEP) clippy cargo clippy --release --all-targets -- -D warnings

rust: # No test is run twice: one that fails now and then fails
	@if cargo nextest --version >/dev/null 2>&1; \
	then $(STEP) rust cargo nextest run --release --no-fail-fast --retries 0; \
	else $(STEP) rust cargo test --release --no-fail-fast; fi

proto: # Against the image of what clients were last told to build with
	@$(STEP) buf-lint buf lint proto
	@$(STEP) buf-breaking buf breaking proto --against proto/released.binpb

proto-release: ## Take proto/ as what later versions must stay compatible with
	buf build proto --exclude-source-info -o proto/released.binpb

components: clients grpc-web grafana typescript page

clients: tests-built # Python, buf curl, plain HTTP, Prometheus; and the commands of README.md
	@$(STEP) clients pytest $(COMPONENTS)

grpc-web: tests-built
	@$(STEP) grpc-web npm --prefix $(COMPONENTS)/node test

typescript: install web tests-built # The client's own tests, and its package in a project of somebody else
	@$(STEP) typescript npm --prefix clients/typescript test
	@$(STEP) packed npm --prefix $(COMPONENTS)/typescript test

page: install web tests-built # The page in Chromium, against the server
	@$(STEP) page npm --prefix $(COMPONENTS)/web test

grafana: # Dashboards against Grafana's types, compose.yaml against the Compose schema
	@$(STEP) grafana npm --prefix $(COMPONENTS)/grafana test

clean: ## Remove what was built and installed
	rm -rf target $(TOOLS) $(COMPONENTS)/*/node_modules $(COMPONENTS)/node/generated
	rm -rf web/node_modules web/dist/assets web/dist/index.html
	cd clients/typescript && rm -rf node_modules src/generated dist build
