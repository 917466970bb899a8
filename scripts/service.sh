#!/bin/sh
# Run a command as a service's process would run: in its container, or with its user, folder and settings.
# Usage: scripts/service.sh order-service flask outbox
exec "$(dirname "$0")/suite.sh" run "$@"
