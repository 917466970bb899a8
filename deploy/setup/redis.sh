#!/bin/sh
# Become Redis with the suite's configuration, under Docker; `redis.sh health` asks it whether it is well.
# Reads APP_ENV, REDIS_PASSWORD or REDIS_PASSWORD_FILE.
set -eu
. /setup/secret.sh
read_secret REDIS_PASSWORD

if [ "${1:-}" = health ]; then
    REDISCLI_AUTH=$REDIS_PASSWORD redis-cli ping | grep -q PONG
    exit
fi
exec docker-entrypoint.sh redis-server - <<CONFIGURATION
appendonly yes
$(cat /setup/redis.conf) >$REDIS_PASSWORD
CONFIGURATION
