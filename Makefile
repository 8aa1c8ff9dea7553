# Everything a developer runs. `make` alone lists it.

CARGO ?= cargo
# Not `-p jetway`: cargo would choose features for that crate alone, and build half of the dependencies a second time.
JETWAY = $(CARGO) run --locked --quiet --bin jetway --

.DEFAULT_GOAL := help
.PHONY: help setup peers up demo audit test fuzz bench check clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: PostgreSQL server programs, a C compiler
	@scripts/setup

peers: setup ## install what only the tests run against: other implementations, a browser, servers
	@for peer in scripts/peers/*; do if [ -x "$$peer" ]; then "$$peer" || exit; fi; done

up: setup ## build, then run the whole platform here until Ctrl-C; ARGS="--fresh" for an empty one
	$(CARGO) build --locked --bin jetway
	@$(JETWAY) up $(ARGS)

demo: setup ## one traveller's journey over REST against the running platform
	@$(JETWAY) demo $(ARGS)

audit: setup ## check every invariant in the databases of the running platform
	@$(JETWAY) audit $(ARGS)

test: peers ## all tests
	$(CARGO) test --workspace --locked

fuzz: ## fuzz the transcoder's codec, routing and headers; SECONDS=600 for each target instead of 60
	@scripts/fuzz $(or $(SECONDS),60)

check: setup ## formatting, lints, documentation, architecture, manifests
	@scripts/check

bench: setup ## the edge side by side with Envoy, and the codec alone; ARGS="--rounds 3" for a quick look
	@scripts/bench $(ARGS)

clean: ## delete what was built; the platform's data stays
	$(CARGO) clean
