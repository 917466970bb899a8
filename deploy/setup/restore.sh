#!/bin/sh
# The steps of a restore that happen beside the database server, as its superuser, over its private socket.
# Usage: restore.sh check VERSION | restore 'QUEUE TYPE …' … <ARCHIVE | unsent
set -eu
export PGUSER="${PGUSER:-postgres}" PGDATABASE=postgres
SERVICES="user product order notification"

ask() { # DATABASE SQL
    PGOPTIONS="-c client_min_messages=warning" psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet -At --dbname "$1" -c "$2"
}

refuse() {
    echo "$*" >&2
    exit 1
}

# A backup goes into a suite that has sold nothing yet; its first administrator doesn't count.
check() {
    version=$(ask postgres "SELECT current_setting('server_version_num')::int / 10000")
    [ "$version" -ge "$1" ] ||
        refuse "The backup was made by PostgreSQL $1, and this suite's is $version: restore it where the server is as new."
    users=$(ask user_db "SELECT count(*) FROM users")
    products=$(ask product_db "SELECT count(*) FROM products")
    orders=$(ask order_db "SELECT count(*) FROM orders")
    [ "$users" -le 1 ] && [ "$products" = 0 ] && [ "$orders" = 0 ] ||
        refuse "The suite is not empty ($users users, $products products, $orders orders): a backup goes into a new one; make reset makes one."
}

# Into databases beside those in use, which change places at the end: whatever fails before leaves all as it was.
# Says how many events will be sent again.
restore() { # 'QUEUE TYPE …' …
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM HUP
    cd "$work"
    tar -xf -
    : >sent
    sha256sum -c sums >/dev/null || refuse "The archive is damaged; nothing was changed."
    swap="BEGIN;"
    for name in $SERVICES; do
        for left in restored emptied; do ask postgres "DROP DATABASE IF EXISTS ${left}_$name"; done
        ask postgres "CREATE DATABASE restored_$name OWNER ${name}_service ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' TEMPLATE template0"
        ask postgres "REVOKE ALL ON DATABASE restored_$name FROM PUBLIC"
        pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --role="${name}_service" \
            --dbname="restored_$name" "$name.dump"
        ask "restored_$name" "ANALYZE"
        swap="$swap ALTER DATABASE ${name}_db RENAME TO emptied_$name; ALTER DATABASE restored_$name RENAME TO ${name}_db;"
    done
    taken_at=$(sed -n 's/^taken_at=//p' manifest)
    for reading in "$@"; do resend "$taken_at" "${reading%% *}" "${reading#* }" >>sent; done
    ask postgres "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE '%\\_db'" >/dev/null
    ask postgres "$swap COMMIT"
    for name in $SERVICES; do ask postgres "DROP DATABASE emptied_$name WITH (FORCE)"; done
    awk '{ total += $1 } END { print total + 0 }' sent
}

# Events that were sent before the backup but not yet handled were in the broker's queues, which no backup
# holds: whatever the queue's reader has not noted down is sent again. Before anybody can begin to work on
# the restored databases: the notes of an old backup are soon forgotten.
resend() { # SINCE QUEUE TYPE …
    since=$1 queue=$2 types=$(echo "$3" | tr ' ' ,)
    domain=${queue%.events}
    sender=${domain##*.}
    case $queue in *-service.*) reader=${queue%%-service.*} ;; *) reader=notification ;; esac
    ask "restored_$reader" "COPY (SELECT event_id FROM inbox WHERE consumer = '$queue') TO STDOUT" |
        psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet -At --dbname "restored_$sender" \
            -c "CREATE TEMPORARY TABLE handled (id uuid PRIMARY KEY)" \
            -c "COPY handled FROM STDIN" \
            -c "WITH lost AS (
                    INSERT INTO outbox (sequence, subject)
                    SELECT sequence, subject FROM events
                    WHERE type = ANY('{$types}') AND occurred_at > timestamptz '$since' - interval '29 days'
                      AND NOT EXISTS (SELECT FROM handled WHERE handled.id = events.id)
                    ON CONFLICT (sequence) DO NOTHING RETURNING 1
                ) SELECT count(*) FROM lost"
}

unsent() {
    for name in user product order; do ask "${name}_db" "SELECT count(*) FROM outbox"; done |
        awk '{ total += $1 } END { print total }'
}

"$@"
