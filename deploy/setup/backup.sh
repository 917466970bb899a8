#!/bin/sh
# Write the four databases as they are at one instant, as a tar archive, to standard output.
# Usage: backup.sh NAME=VALUE …   (lines for the archive's manifest)
#
# Runs beside the server, as its superuser, over its private socket. docs/adr/0004-backups.md says why so.
set -eu
export PGUSER="${PGUSER:-postgres}" PGDATABASE=postgres
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
cd "$work"

# An exported snapshot is of one database. For the moment in which the four are taken nobody may commit, so
# every table is locked against writing: all of a database at once or none, and never waiting, because who
# waits for one table while holding another stops the shop, or deadlocks with it.
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet -At -o /dev/null >&2 <<'SQL'
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE TEMPORARY TABLE snapshot (service text, id text);
CREATE TEMPORARY TABLE moment (taken_at timestamptz, held_ms int);

DO $$
DECLARE
    -- Those that are written most first, so that the others are held for the shortest time.
    services text[] := '{order,product,notification,user}';
    here text := format('host=%s port=%s user=%s dbname=', split_part(current_setting('unix_socket_directories'),
                        ',', 1), current_setting('port'), current_user) || '%s_db';
    service text;
    tables jsonb := '{}';
    list text;
    gives_up timestamptz := clock_timestamp() + interval '60 seconds';
    held_since timestamptz;
    is_held boolean;
BEGIN
    FOREACH service IN ARRAY services LOOP
        PERFORM dblink_connect('lock_' || service, format(here, service));
        PERFORM dblink_connect('keep_' || service, format(here, service));
        SELECT names INTO list FROM dblink('lock_' || service, $sql$
            SELECT string_agg(format('%I.%I', schemaname, tablename), ', ')
            FROM pg_tables WHERE schemaname = 'public'
        $sql$) AS found (names text);
        tables := tables || jsonb_build_object(service, list);
    END LOOP;
    LOOP
        held_since := NULL;
        FOREACH service IN ARRAY services LOOP
            LOOP
                PERFORM dblink_exec('lock_' || service, 'BEGIN');
                is_held := dblink_exec('lock_' || service, 'LOCK TABLE ' || (tables ->> service)
                                       || ' IN SHARE MODE NOWAIT', false) = 'LOCK TABLE';
                EXIT WHEN is_held;
                PERFORM dblink_exec('lock_' || service, 'ROLLBACK');
                -- The first may be waited for; a service waits at most 1 s for a lock, and that must not end.
                EXIT WHEN clock_timestamp() > least(held_since + interval '300 ms', gives_up);
                PERFORM pg_sleep(0.001);
            END LOOP;
            EXIT WHEN NOT is_held;
            held_since := coalesce(held_since, clock_timestamp());
        END LOOP;
        EXIT WHEN is_held;
        FOREACH service IN ARRAY services LOOP
            PERFORM dblink_exec('lock_' || service, 'ROLLBACK', false);
        END LOOP;
        IF clock_timestamp() > gives_up THEN
            RAISE EXCEPTION 'There was no moment in 60 s in which nobody wrote; try again.';
        END IF;
        -- A vacuum holds its table for long, and is begun again by itself.
        PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker';
        PERFORM pg_sleep(0.1);
    END LOOP;
    FOREACH service IN ARRAY services LOOP
        PERFORM dblink_exec('keep_' || service, 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
        INSERT INTO snapshot SELECT service, id
        FROM dblink('keep_' || service, 'SELECT pg_export_snapshot()') AS exported (id text);
    END LOOP;
    INSERT INTO moment
    VALUES (clock_timestamp(), extract(epoch FROM clock_timestamp() - held_since) * 1000);
    FOREACH service IN ARRAY services LOOP
        PERFORM dblink_disconnect('lock_' || service);
    END LOOP;
END
$$;

\o snapshots
SELECT service || ' ' || id FROM snapshot;
\o moment
SELECT to_char(taken_at AT TIME ZONE 'UTC', '"taken_at="YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM moment;
SELECT 'held_ms=' || held_ms FROM moment;
SELECT 'postgres=' || current_setting('server_version_num')::int / 10000;
\o
-- The snapshots live as long as this session.
\! while read -r name id; do pg_dump --format=custom --snapshot="$id" --file="$name.dump" "${name}_db" && pg_restore --list "$name.dump" >"$name.list" || exit 1; done <snapshots && touch whole
SQL
[ -e whole ] || {
    echo "A database could not be written; nothing was kept." >&2
    exit 1
}
{
    echo "format=1"
    cat moment
    for line in "$@"; do echo "$line"; done
} >manifest
sha256sum manifest user.dump product.dump order.dump notification.dump >sums
tar -cf - manifest sums user.dump product.dump order.dump notification.dump
