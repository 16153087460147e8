# The commands of this repository; `make help` lists them.

GO ?= go
# Pinned, so that lint has the same findings everywhere.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.6.2
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 20s
SEEDS ?= 3000
ROUNDS ?= 50

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# The flags of go build for a release binary.
RELEASE = -trimpath -ldflags "-s -w -X rotator/internal/version.linked=$(VERSION)"
# The supported systems, as GOOS/GOARCH.
SYSTEMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

.PHONY: build
build: ## build bin/rotator and bin/rotator-demo
	CGO_ENABLED=0 $(GO) build $(RELEASE) -o bin/ ./cmd/rotator ./cmd/rotator-demo

.PHONY: cross
cross: ## build both programs for each supported system into bin/GOOS-GOARCH/
	@set -e; for system in $(SYSTEMS); do \
		os=$${system%/*}; arch=$${system#*/}; mkdir -p bin/$$os-$$arch; \
		echo "$$system"; \
		GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 $(GO) build $(RELEASE) -o bin/$$os-$$arch/ \
			./cmd/rotator ./cmd/rotator-demo; \
	done

.PHONY: demo
demo: build ## run the main job end to end on a fake AWS
	bin/rotator-demo

.PHONY: test
test: ## run the tests; needs Go and modules, nothing else
	$(GO) test -timeout 30m ./...

.PHONY: race
race: ## run the tests under the race detector, with shorter sweeps and simulations
	$(GO) test -race -short -timeout 30m ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, golangci-lint, go mod tidy, words and line widths
	@test -z "$$(gofmt -l .)" || { echo "not formatted (run gofmt -w .):"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e,torture,mutants ./test/e2e
	$(GO) vet -tags evidence ./test/evidence
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(GOLANGCI) run ./...
	$(GO) mod tidy -diff
	$(GO) run ./test/prose

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (20s) each; `make test` runs their corpora
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' internal cmd | sort); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$(dirname $$file) $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s ./$$(dirname $$file); \
		done; \
	done

DIVISIONS = TestTheSumKeepsToTheRate|TestSeveralRunsAreAsFastAsOne

.PHONY: simulate
simulate: ## simulate SEEDS (3000) histories, kills at each durable step, and rates in virtual time
	$(GO) test ./internal/rotate -count 1 -run 'TestSimulation|TestCrashSweep|$(DIVISIONS)' -v -args \
		-seeds=$(SEEDS) -every=1 -divisions=60 -full
	$(GO) test ./internal/flowcontrol -count 1 -run 'TestHiddenQuota|TestThrottlingSlows' -args -full

.PHONY: torture
torture: ## kill the real binary ROUNDS (50) times over each kind of checkpoint
	ROUNDS=$(ROUNDS) $(GO) test -tags torture -count 1 -timeout 3h -v -run TestTorture ./test/e2e

# The tests that check rates and times. make test allows more.
TIMING = TestRunsTogetherAreAsFastAsOne|TestRunThatJoinsGetsWork|TestShareOfAnIdleRunReturns
TIMING := $(TIMING)|TestRateHoldsWhileRunsComeAndGo|TestARunIsNotBunched|TestAuditSharesTheRate
TIMING := $(TIMING)|TestPreflightPassesTheLimiter|TestOutages|TestNamesThatStopResolving
TIMING := $(TIMING)|TestStops|TestSecondSignal|TestDrains|TestFaults/(01|22)

.PHONY: timing
timing: ## check rates and times in real time; needs a machine without other load
	ROTATOR_TIMING=1 $(GO) test ./cmd/rotator -count 1 -timeout 15m -v -run '$(TIMING)'
	ROTATOR_TIMING=1 $(GO) test ./cmd/rotator -count 1 -timeout 15m -run 'TestMixedBucket|TestExamples$$'

.PHONY: sharing
sharing: ## measure one to four runs of one pass, over a bucket and over tables, in real time
	ROTATOR_SHARING=1 $(GO) test ./cmd/rotator -count 1 -timeout 60m -v -run TestRunsTogetherMatrix

.PHONY: mutants
mutants: ## remove one protection at a time; a test must fail for each
	$(GO) test -tags mutants -count 1 -timeout 30m -v -run 'TestMutantsMatch|TestMutants$$' ./test/e2e

.PHONY: e2e
e2e: ## run the binary against moto_server (skipped with a message if it is not installed)
	$(GO) test -tags e2e -count 1 -v -timeout 20m ./test/e2e

.PHONY: conformance
conformance: ## run against other servers; skips those that are not installed (UPDATE=1 writes docs/conformance.md)
	cd test/conformance && $(GO) vet ./... && UPDATE=$(UPDATE) $(GO) test -count 1 -timeout 30m -v -run TestConformance .

.PHONY: clients
clients: ## let the clients that wrote ciphertexts read what rotator made of them; skips, and says so, what is not installed
	cd test/interop && $(GO) vet ./... && $(GO) test -count 1 -timeout 15m -v .

.PHONY: bench
bench: ## compare rotator with loops over the SDK (BENCH=small for CI, BENCH=full; ABLATIONS=1 or 0; UPDATE=1 writes docs/performance.md)
	$(GO) build -o bin/bench ./test/bench
	BENCH=$(BENCH) UPDATE=$(UPDATE) ABLATIONS=$(ABLATIONS) bin/bench

.PHONY: evidence
evidence: ## check the evidence pack of the demo with Chromium, Python and cosign (COSIGN=PATH, PICTURES=DIR)
	PICTURES=$(abspath $(PICTURES)) COSIGN=$(abspath $(COSIGN)) $(GO) test -tags evidence -count 1 -v -timeout 15m ./test/evidence

.PHONY: pictures
pictures: ## make the pictures of the documentation from the demo and a sample report (needs Chromium and npm)
	cd test/evidence/node && npm ci --no-audit --no-fund --ignore-scripts
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
		$(GO) build -o "$$dir" ./cmd/rotator ./cmd/rotator-demo; \
		"$$dir/rotator-demo" --dir "$$dir/demo" >/dev/null; \
		"$$dir/rotator" report --from internal/report/document/testdata/report.json -o html \
			> "$$dir/sample.html"; \
		node test/evidence/node/pictures.mjs "$$(command -v chromium)" \
			"$$dir/demo/evidence-pack/report.html" "$$dir/sample.html" docs

.PHONY: audit-log
audit-log: ## measure the audit log: bytes per slot of SLOTS (1000000), speed of its verification
	ROTATOR_AUDIT_SLOTS=$(or $(SLOTS),1000000) $(GO) test ./internal/report/auditlog -run TestBytesPerSlot -v -timeout 30m
	$(GO) test ./internal/report/auditlog -run '^$$' -bench . -cpu 1

.PHONY: model
model: ## check the model of leases and fences with spin (apt-get install spin gcc)
	./test/model/check.sh
