#!/bin/sh
# Bring PostgreSQL to one database and one role a service, with the passwords of the environment.
#
# It states what shall be, so it runs at the first start, from the image's entrypoint, and again at every
# start, as the superuser over the server's private socket: a changed password counts from then on.
# The tables are no business of this script; each service migrates its own database.
#
# Reads POSTGRES_PASSWORD, USER_DB_PASSWORD, PRODUCT_DB_PASSWORD, ORDER_DB_PASSWORD, NOTIFICATION_DB_PASSWORD
# (or the file that NAME_FILE names), APP_ENV, and psql's own PGHOST, PGPORT and PGUSER (or the image's
# POSTGRES_USER).
set -eu

refuse() {
    echo "$*" >&2
    exit 1
}

# As in deploy/setup/secret.sh, which is not there when the image's entrypoint runs this.
read_secret() {
    eval "secret=\${$1:-} secret_file=\${$1_FILE:-}"
    if [ -n "$secret_file" ]; then
        [ -z "$secret" ] || refuse "Both $1 and $1_FILE are set: leave one of them out."
        [ -r "$secret_file" ] || refuse "$1_FILE names a file that can't be read: $secret_file."
        secret=$(cat "$secret_file")
        export "$1=$secret"
    fi
    [ -n "$secret" ] || refuse "$1 is missing: set it in .env."
    case ${APP_ENV:-}:$secret in
        production:*-change-me)
            refuse "APP_ENV=production, but $1 in .env is missing or still the example's: choose another."
            ;;
    esac
}

for name in POSTGRES USER_DB PRODUCT_DB ORDER_DB NOTIFICATION_DB; do
    read_secret "${name}_PASSWORD"
done
export PGUSER="${PGUSER:-${POSTGRES_USER:-postgres}}"
# Whatever is said on the command line shows in the list of processes, so psql reads passwords by \getenv.
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --dbname postgres <<'SQL'
-- A statement that fails must not carry its password into the server's log.
SET log_min_error_statement = panic;
SET log_statement = none;
SET password_encryption = 'scram-sha-256';
SET client_min_messages = warning;

\getenv superuser PGUSER
\getenv password POSTGRES_PASSWORD
ALTER ROLE :"superuser" PASSWORD :'password';

-- Two replicas of a service hold 16 connections each, its worker some 6; a migration and a replica that is
-- being replaced need a few more. The notification service has Celery's processes besides. The limits add
-- up to less than max_connections (200), so that no service can starve another.
CREATE TEMPORARY TABLE service (name text, connections int);
INSERT INTO service VALUES ('user', 46), ('product', 46), ('order', 46), ('notification', 52);

SELECT format('CREATE ROLE %I', name || '_service')
FROM service WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name || '_service')
\gexec

SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS '
              'CONNECTION LIMIT %s', name || '_service', connections)
FROM service
\gexec

\getenv password USER_DB_PASSWORD
ALTER ROLE user_service PASSWORD :'password';
\getenv password PRODUCT_DB_PASSWORD
ALTER ROLE product_service PASSWORD :'password';
\getenv password ORDER_DB_PASSWORD
ALTER ROLE order_service PASSWORD :'password';
\getenv password NOTIFICATION_DB_PASSWORD
ALTER ROLE notification_service PASSWORD :'password';

-- The locale C sorts alike on every system; the searches of the shop bring their own order.
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' LC_COLLATE ''C'' LC_CTYPE ''C.UTF-8'' '
              'TEMPLATE template0', name || '_db', name || '_service')
FROM service WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name || '_db')
\gexec

-- By default every role may connect to every database and make temporary tables there. A database's owner
-- keeps its own rights.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) FROM pg_database WHERE datname <> 'template0'
\gexec
SQL
