# What a person calls. CI calls `make test` and nothing else.

.DEFAULT_GOAL := help
SHELL := /bin/sh
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
HCL := $(CARGO_TARGET_DIR)/release/hcl-image
IMAGE := out/hcl-debian-trixie-armhf.img
# How many runs of the simulator.
SEEDS := 2000
# How often each scenario of `make vlan` runs, and where its figures go.
ROUNDS := 1
REPORT :=
# Only scenarios with this in their names.
SCENARIO :=
# More options for `hcl-image build`, such as ARGS="--compress xz --set node.vlan=201".
ARGS :=

.PHONY: help image node builder test check proof sim vlan cluster swarm-lab bench bench-swarm boot-raspi3b packages test-packages clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

image: packages builder node ## Build the default image into out/ (installs what is missing)
	$(HCL) build --node-program $(CARGO_TARGET_DIR)/hcl-firstboot-armhf $(ARGS)

test: test-packages ## Everything that CI runs, each stage with its time budget
	scripts/stages test

check: ## Before a commit: format, lints, licences, docs, fast tests
	scripts/stages check

proof: test-packages ## The long runs; dated figures go to docs/proof/
	scripts/stages proof

sim: ## Clusters in virtual time, SEEDS=2000 unless given; a table of what was found
	HCL_SIM_SEEDS=$(SEEDS) cargo test --locked --release -p hcl-firstboot --test sim -- --nocapture

vlan: ## Nodes of the built image on a switch with VLANs, in a small QEMU machine; ROUNDS=1 unless given, figures to REPORT
	HCL_IMAGE="$(abspath $(IMAGE))" HCL_NODE_PROGRAM="$(CARGO_TARGET_DIR)/hcl-firstboot-armhf" HCL_VLAN_ROUNDS=$(ROUNDS) HCL_VLAN_REPORT="$(abspath $(REPORT))" \
		cargo test --locked --release -p hcl-image --test vlan $(SCENARIO) -- --ignored --nocapture --test-threads=1

cluster: builder ## The life of whole clusters in QEMU: cards copied and moved, power cut, strangers, two keys; SCENARIO= picks, figures to REPORT
	scripts/install-packages proof
	HCL_IMAGE="$(abspath $(IMAGE))" HCL_NODE_PROGRAM="$(CARGO_TARGET_DIR)/hcl-firstboot-armhf" HCL_FIGURES="$(abspath $(REPORT))" \
		cargo test --locked --release -p hcl-image --test cluster $(SCENARIO) -- --ignored --nocapture --test-threads=1

swarm-lab: test-packages ## The Docker API of three real engines as one, by real clients: a table of cases; as root
	cargo test --locked --release -p hcl-swarm --no-fail-fast --test conformance --test discovery

bench: test-packages builder node ## Injection and bootstrap against the alternatives, side by side
	scripts/bench

bench-swarm: test-packages ## The Swarm API against the engines themselves, side by side
	scripts/bench-swarm

boot-raspi3b: test-packages builder ## Boot the built image on QEMU's Pi 3B, with the Pi's own device tree
	$(HCL) test $(IMAGE) --machine raspi3b --nodes 1

builder: ## Compile hcl-image
	cargo build --locked --release -p hcl-image

node: ## Compile the programs for the cards, static ARM binaries: the node program and hcl-swarm
	program=$$(scripts/build-node armhf) && cp "$$program" $(CARGO_TARGET_DIR)/hcl-firstboot-armhf
	program=$$(scripts/build-node armhf hcl-swarm) && cp "$$program" $(CARGO_TARGET_DIR)/hcl-swarm-armhf

packages: ## Install what `make image` needs
	scripts/install-packages build

test-packages: ## Install what `make test` needs: emulator and judges
	scripts/install-packages test

clean: ## Remove what was compiled and built here; caches in ~/.cache/hcl-image stay
	rm -rf $(CARGO_TARGET_DIR) out
