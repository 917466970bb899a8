#!/usr/bin/env bash
# Set up what the tests need, then run them.  Usage: scripts/test.sh all|lint|docker|thorough|security|faults|mutants [OPTIONS]
set -euo pipefail
cd "$(dirname "$0")/.."

set_up() {
    scripts/packages.sh
    venv=$(scripts/python.sh -m deploy.local.venv requirements-dev.txt)
    export PATH="$venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
}

lint() {
    ruff check .
    ruff format --check .
    mypy
    mypy deploy/local deploy/setup/checks.py scripts/*.py
}

all() {
    set_up
    lint
    # Beside the others, for it mostly waits; one running suite for both. Bash has what runs in the background
    # ignore Ctrl-C, which has to end the suite, too.
    mkdir -p build
    env --default-signal=INT pytest -m "not thorough" "$@" tests/e2e tests/security >build/test-suite.log 2>&1 &
    local suite=$! failed=0
    # Each worker process has servers of its own; files stay whole, for their tests share what is costly.
    pytest "$@" -n 2 --dist loadfile --ignore=tests/e2e --ignore=tests/security tests || failed=1
    echo "The end-to-end and security tests go on; build/test-suite.log has how far they are."
    wait "$suite" || failed=1
    cat build/test-suite.log
    return "$failed"
}

# The end-to-end tests against containers, which stay up when they were up before.
docker_tests() {
    set_up
    [ -n "$(docker ps --quiet --filter label=com.docker.compose.service=nginx \
        --filter label=com.docker.compose.project.working_dir="$PWD")" ] || trap 'MODE=docker scripts/suite.sh down' EXIT
    MODE=docker scripts/suite.sh up
    SHOP_URL=$(MODE=docker scripts/suite.sh url) pytest "$@" tests/e2e tests/security
}

# What `make test` leaves out because it takes long, on a plain suite.
thorough() {
    set_up
    pytest -m thorough "$@" tests/e2e tests/security
}

# Who may call what, forged tokens, bad input, smuggling, leaks: on a suite of its own, with the tables printed.
security() {
    set_up
    pytest --tables "$@" tests/security
}

# The fault lab; only a whole run may write its page.
faults() {
    set_up
    local options=(${MODE:+--mode "$MODE"})
    if [ -n "${QUICK:-}" ]; then
        options+=(--quick)
    elif [ $# -eq 0 ]; then
        options+=(--out docs/faults.md)
    fi
    python -m tests.faults "${options[@]}" "$@"
}

# Whether the fault lab notices that a safeguard is gone; only a whole run may write its page.
mutants() {
    set_up
    [ $# -gt 0 ] || set -- --out docs/faults-mutants.md
    python -m tests.faults.mutants "$@"
}

# Lag and recovery of the events, on a suite of its own.
bench() {
    set_up
    python bench/events.py "$@"
}

case ${1:-} in
    all) all "${@:2}" ;;
    lint)
        set_up
        lint
        ;;
    docker) docker_tests "${@:2}" ;;
    thorough) thorough "${@:2}" ;;
    security) security "${@:2}" ;;
    faults) faults "${@:2}" ;;
    mutants) mutants "${@:2}" ;;
    bench) bench "${@:2}" ;;
    *)
        echo "Usage: scripts/test.sh all|lint|docker|thorough|security|faults|mutants|bench [OPTIONS]" >&2
        exit 1
        ;;
esac
