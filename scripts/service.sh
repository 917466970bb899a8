#!/bin/sh
# Run a command as a service's process would run: in its container, or with its user, folder and settings.
if [ $# -lt 2 ]; then
    echo "Usage: scripts/service.sh SERVICE COMMAND …, such as scripts/service.sh order-service flask outbox" >&2
    exit 1
fi
exec "$(dirname "$0")/suite.sh" run "$@"
