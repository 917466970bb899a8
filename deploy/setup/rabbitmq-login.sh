#!/bin/bash
# Give RabbitMQ's administrator the name and password of the environment, also when the node has others.
#
# The image's RABBITMQ_DEFAULT_USER and _PASS count for an empty node alone. Where they are refused, the node
# itself is told through its command line tool, which identifies itself by the node's cookie.
# Reads APP_ENV, RABBITMQ_HOST, RABBITMQ_NODENAME, RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS (or …_FILE).
set -euo pipefail
. "$(dirname "$0")/secret.sh"
read_secret RABBITMQ_DEFAULT_PASS

status() {
    local login status
    login=$(printf '%s:%s' "$RABBITMQ_DEFAULT_USER" "$RABBITMQ_DEFAULT_PASS" | base64 --wrap=0)
    exec 3<>"/dev/tcp/$RABBITMQ_HOST/15672"
    printf 'GET /api/whoami HTTP/1.0\r\nHost: %s\r\nAuthorization: Basic %s\r\n\r\n' "$RABBITMQ_HOST" "$login" >&3
    read -r _ status _ <&3
    exec 3>&-
    echo "$status"
}

control() { rabbitmqctl --quiet --node "$RABBITMQ_NODENAME" "$@"; }

if [ "$(status)" = 200 ]; then
    echo "RabbitMQ knows its administrator."
    exit 0
fi
verb=add_user
control list_users --no-table-headers | cut -f1 | grep --quiet --line-regexp --fixed-strings \
    "$RABBITMQ_DEFAULT_USER" && verb=change_password
# The password goes by standard input: arguments show in the list of processes.
printf '%s\n' "$RABBITMQ_DEFAULT_PASS" | control "$verb" "$RABBITMQ_DEFAULT_USER"
control set_user_tags "$RABBITMQ_DEFAULT_USER" administrator
control set_permissions "$RABBITMQ_DEFAULT_USER" '.*' '.*' '.*'
echo "RabbitMQ's administrator has the name and password of the settings."
