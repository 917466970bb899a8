# `make help` lists the targets; what they do is in scripts/ and deploy/local/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env up down status logs url restart rolling-restart reset backup restore move demo test test-docker test-thorough test-security test-faults test-faults-mutants lint lock bench-events bench-footprint audit sbom

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: ## write a .env with random secrets; APP_ENV=production make env turns the limits on too
	@scripts/python.sh scripts/make_env.py

up: ## start the shop and wait until it is well: by Docker when an engine answers, else as plain processes (MODE=docker|plain)
	@scripts/suite.sh up

down: ## stop it; the data stays
	@scripts/suite.sh down

status: ## list the processes
	@scripts/suite.sh status

logs: ## follow the logs, all or one's (SERVICE=order-service)
	@scripts/suite.sh logs $(SERVICE)

url: ## print the shop's address
	@scripts/suite.sh url

restart: ## restart one process (SERVICE=order-service)
	@scripts/suite.sh restart $(SERVICE)

rolling-restart: ## replace a service's replicas one by one by newly built ones, without a failed request (SERVICE=order-service; Docker)
	@scripts/suite.sh rolling-restart $(SERVICE)

reset: ## stop it and delete ./data and ./logs, after asking (YES=1 does not ask)
	@YES=$(YES) scripts/suite.sh reset

backup: ## write the shop as it is at this instant into backups/, while it sells
	@scripts/suite.sh backup

restore: ## bring a backup into an empty suite, send again what may not have been handled, and reconcile (FILE=backups/….tar)
	@scripts/suite.sh restore "$(FILE)"

move: ## move the shop to the other mode, by a backup (MODE=docker|plain)
	@MODE= TO=$(MODE) scripts/suite.sh move

demo: ## fill the shop with a few hundred products and a customer
	@scripts/python.sh scripts/demo.py "$$(scripts/suite.sh url)"

test: ## run every check, on servers of its own: lint, types, unit, integration, contract, end to end
	@scripts/test.sh all

test-thorough: ## run what `make test` leaves out because it takes long
	@scripts/test.sh thorough

test-docker: ## run the end-to-end tests against docker compose
	@scripts/test.sh docker

test-security: ## run the security tests and print their tables: operations × roles, forged tokens, paths, smuggling
	@scripts/test.sh security

test-faults: ## break a suite of its own on purpose, then count (QUICK=1 kills only, MODE=docker|plain); writes docs/faults.md
	@QUICK=$(QUICK) MODE=$(MODE) scripts/test.sh faults $(ARGS)

test-faults-mutants: ## take safeguards out of copies of the suite one by one: the fault lab must turn red each time (14 min)
	@scripts/test.sh mutants $(ARGS)

lint: ## run ruff and mypy
	@scripts/test.sh lint

audit: ## look up every pinned Python package's known holes; one fails
	@scripts/audit.sh audit

sbom: ## write what the suite consists of to build/sbom.cdx.json (CycloneDX)
	@scripts/audit.sh sbom

lock: ## pin the dependencies anew (ARGS=--upgrade takes newer ones)
	@scripts/lock.sh $(ARGS)

bench-events: ## print how long events wait under load, and how soon a broker's outage is made up for
	@scripts/test.sh bench

bench-footprint: ## print start time and idle memory of the whole suite (MODE=docker|plain)
	@MODE=$(or $(MODE),plain) scripts/python.sh scripts/bench_footprint.py
