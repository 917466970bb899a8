#!/usr/bin/env bash
# Supply chain: look for known holes, or write down what the suite consists of.
# Usage: scripts/audit.sh audit|sbom   (see `make help`)
set -euo pipefail
cd "$(dirname "$0")/.."

# Tools of their own, so that what they need never meets what the suite needs.
tools() {
    venv=build/audit-venv
    if ! cmp -s requirements-audit.txt "$venv/requirements.txt"; then
        rm -rf "$venv"
        scripts/python.sh -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-audit.txt
        cp requirements-audit.txt "$venv/requirements.txt"
    fi
}

reach_advisories() {
    "$venv/bin/python" - <<'PYTHON'
import sys, urllib.error, urllib.request
address = "https://pypi.org/pypi/pip/24.0/json"
try:
    urllib.request.urlopen(address, timeout=20).close()
except OSError as error:
    sys.exit(f"Nothing was audited: PyPI's advisories ({address}) can't be read: {error}.")
PYTHON
}

# Every pinned package, those of the tests and tools too, against PyPI's advisories. One that can't be looked up
# fails like one with a hole (--strict), or an audit without a network would be a good one.
audit() {
    local file options=()
    reach_advisories
    for file in requirements-dev.txt requirements-audit.txt ./*-service/requirements.txt deploy/local/requirements.txt; do
        options+=(--requirement "$file")
    done
    "$venv/bin/pip-audit" --strict --require-hashes --disable-pip --progress-spinner off "${options[@]}"
}

sbom() { "$venv/bin/python" scripts/sbom.py; }

case ${1:-} in
    audit | sbom)
        tools
        "$1"
        ;;
    *)
        echo "Usage: scripts/audit.sh audit|sbom" >&2
        exit 1
        ;;
esac
