#!/bin/sh
# Run the first Python that is 3.11 or later; the system's own first, for it is there for every user.
for python in /usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 \
    python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" "$@"
    fi
done
echo "There is no Python 3.11 or later; install python3 and python3-venv." >&2
exit 1
