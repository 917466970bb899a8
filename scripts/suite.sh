#!/usr/bin/env bash
# One suite, two ways to run it: containers where a Docker engine answers, else plain processes.
#
# data/ belongs to the way that made it (their PostgreSQLs sort differently, their brokers differ in version):
# data/.mode names it, and MODE=docker|plain chooses at the first start. SUITE_ROOT is the folder that holds data/,
# logs/ and .env, if that is not the clone itself (plain mode only).
set -euo pipefail
cd "$(dirname "$0")/.."
root=${SUITE_ROOT:-$PWD}
. scripts/backups.sh

# A container's state with its health or, when it has ended, its exit code; then its name.
STATE='{{.State.Status}}:{{if eq .State.Status "exited"}}{{.State.ExitCode}}{{else if .State.Health}}{{.State.Health.Status}}{{end}} {{.Name}}'

USAGE="Usage: scripts/suite.sh COMMAND …
  up                       start the shop and wait until it is well
  down                     stop it; the data stays
  status                   list the processes
  logs [PROCESS]           follow the logs, all or one process's
  url                      print the shop's address
  restart PROCESS          restart one process
  rolling-restart SERVICE  replace a service's replicas one by one (Docker)
  reset                    stop it and delete data and logs, after asking (YES=1 does not ask)
  backup                   write the shop as it is into backups/
  restore FILE             bring a backup into an empty suite
  move                     move the shop to the other mode (TO=docker|plain)
  run SERVICE COMMAND …    run a command beside a service's process
MODE=docker|plain says how a new shop runs; without it, by Docker when an engine answers. Data that is there knows its mode."

die() {
    echo "$*" >&2
    exit 1
}

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

engine_answers() {
    command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1 &&
        { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }
}

# Which way made the data that is there; nothing when there is none.
mode_of_data() {
    if [ -r "$root/data/.mode" ]; then
        cat "$root/data/.mode"
    elif [ -d "$root/data/postgres" ] && { [ ! -r "$root/data/postgres" ] || [ -n "$(ls -A "$root/data/postgres")" ]; }; then
        # Compose was called directly: the plain launcher leaves no data without a mark.
        echo docker
    fi
}

choose_mode() {
    local made wanted=${MODE:-}
    made=$(mode_of_data)
    case $wanted in '' | docker | plain) ;; *) die "MODE is docker or plain, not $wanted." ;; esac
    if [ -n "$made" ] && [ -n "$wanted" ] && [ "$made" != "$wanted" ]; then
        die "The folder data belongs to the suite in $made mode: leave MODE out, carry it over by make move MODE=$wanted, or delete it by make reset."
    fi
    mode=${made:-$wanted}
    if [ -z "$mode" ]; then
        if engine_answers; then mode=docker; else mode=plain; fi
    elif [ "$mode" = docker ] && ! engine_answers; then
        die "The suite is in docker mode, but no Docker engine answers: start the engine, or use MODE=plain with data/ moved away."
    fi
}

settings() {
    [ -e "$root/.env" ] || install -m 600 .env.example "$root/.env"
}

setting() {
    local line
    line=$(grep -E "^$1=" "$root/.env" | tail -n 1) || true
    line=${line#*=}
    echo "${!1:-${line:-$2}}"
}

plain() {
    exec scripts/python.sh -m deploy.local --root "$root" "$@"
}

address() {
    if [ "$2" = "$3" ]; then echo "$1://localhost"; else echo "$1://localhost:$2"; fi
}

docker_url() { address http "$(setting HTTP_PORT 80)" 80; }

docker_urls() {
    echo "shop                   $(docker_url)"
    echo "shop (TLS)             $(address https "$(setting HTTPS_PORT 443)" 443)"
    echo "user-service           http://localhost:$(setting USER_SERVICE_PORT 5001)"
    echo "product-service        http://localhost:$(setting PRODUCT_SERVICE_PORT 5002)"
    echo "order-service          http://localhost:$(setting ORDER_SERVICE_PORT 5003)"
    echo "notification-service   http://localhost:$(setting NOTIFICATION_SERVICE_PORT 5004)"
    echo "RabbitMQ               http://localhost:$(setting RABBITMQ_MANAGEMENT_PORT 15672)"
    [ "$(setting APP_ENV development)" = production ] ||
        echo "mails                  http://localhost:$(setting MAIL_PORT 1080)"
}

up() {
    if [ "$mode" = plain ]; then
        scripts/packages.sh
        plain up
    fi
    # The first --wait, before 2.7, waits for ever for the set-up steps; --wait-timeout is younger (2.17).
    if [[ $(compose up --help 2>&1) == *--wait-timeout* ]]; then
        compose up -d --build --wait
    else
        compose up -d --build
        wait_until_well
    fi
    docker_urls
}

# What --wait does, for an old Compose.
wait_until_well() {
    local containers states unwell="" deadline=$((SECONDS + ${WAIT_SECONDS:-300}))
    containers=$(compose ps -aq)
    while true; do
        # Unquoted on purpose: one word a container.
        # shellcheck disable=SC2086
        states=$(docker inspect --format "$STATE" $containers)
        unwell=$(grep -vE '^(running:(healthy)?|exited:0) ' <<<"$states" || true)
        [ -n "$unwell" ] || return 0
        [ "$SECONDS" -lt "$deadline" ] || break
        sleep 2
    done
    # shellcheck disable=SC2086
    die "Not everything is well after ${WAIT_SECONDS:-300} s:" $unwell
}

status() { if [ "$mode" = plain ]; then plain status; else compose ps; fi; }
down() { if [ "$mode" = plain ]; then plain down; else compose down; fi; }
url() { if [ "$mode" = plain ]; then plain url; else docker_url; fi; }

logs() {
    # Unquoted on purpose: no name means all.
    # shellcheck disable=SC2086
    if [ "$mode" = plain ]; then plain logs $1; else compose logs -f --tail 50 $1; fi
}

restart() {
    [ -n "$1" ] || die "Name a process: make restart SERVICE=order-service; make status lists them."
    if [ "$mode" = plain ]; then plain restart "$1"; else compose restart "$1"; fi
}

rolling_restart() {
    local service=""
    case $1 in user-service | product-service | order-service | notification-service) service=$1 ;; esac
    [ "$mode" = docker ] ||
        die "Without Docker a service is one process, which nothing can stand in for: make restart SERVICE=${service:-order-service}."
    [ -n "$service" ] || die "Name a service that Nginx leads to: make rolling-restart SERVICE=order-service"
    exec scripts/rolling_restart.sh "$1"
}

run() {
    [ $# -ge 2 ] || die "$USAGE"
    if [ "$mode" = plain ]; then plain run "$@"; fi
    local options=()
    # Without a terminal Compose would refuse to give the command one.
    [ -t 0 ] || options+=(-T)
    # The container's commands run as root, and the database knows nobody of that name.
    [ "$1" != postgres ] || options+=(-e PGUSER=postgres)
    compose exec "${options[@]}" "$@"
}

reset() {
    if [ "${YES:-}" != 1 ]; then
        read -r -p "Delete all data and logs of the shop? Type yes: " answer || true
        [ "${answer:-}" = yes ] || die "Nothing was deleted."
    fi
    if [ "$mode" = plain ]; then plain forget; fi
    compose down --volumes --remove-orphans
    # The files belong to the containers' users, so a container deletes them.
    docker run --rm --network none -v "$PWD:/clone" --entrypoint sh postgres:15-alpine \
        -c "rm -rf /clone/data /clone/logs"
    echo "Data and logs are deleted."
}

command=${1:-}
case $command in
    up | down | status | logs | url | restart | reset | backup | restore | move)
        settings
        choose_mode
        "$command" "${2:-}"
        ;;
    rolling-restart)
        settings
        choose_mode
        rolling_restart "${2:-}"
        ;;
    run) # scripts/service.sh
        settings
        choose_mode
        run "${@:2}"
        ;;
    -h | --help | help) echo "$USAGE" ;;
    *) die "$USAGE" ;;
esac
