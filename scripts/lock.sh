#!/usr/bin/env bash
# Compile every requirements.in into its requirements.txt: pinned, with hashes, for Python 3.11 and later.
# `scripts/lock.sh --upgrade` takes newer versions where the .in files allow them; without it only what
# an .in file asks for changes.
set -euo pipefail
cd "$(dirname "$0")/.."

ALL=requirements-dev
FILES=({user,product,order,notification}-service/requirements deploy/local/requirements)

uv=$(scripts/python.sh -m deploy.local.venv "$ALL.txt")/bin/uv

compile() {
    UV_CUSTOM_COMPILE_COMMAND='make lock' "$uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url "$1.in" --output-file "$1.txt" "${@:2}"
}

# Tools that run beside the suite, in an environment of their own.
compile requirements-audit "$@"
# The developer's file includes all others; its versions are the ones that the others start from.
compile "$ALL" "$@"
for file in "${FILES[@]}"; do
    cp "$ALL.txt" "$file.txt"
    compile "$file"
done
