#!/usr/bin/env bash
# Replace a service's replicas one after the other by replicas of a newly built image; no request fails.
# Usage: scripts/rolling_restart.sh SERVICE   (`make rolling-restart SERVICE=order-service`)
#
# A replica that is told to end takes itself out: its port refuses connections from then on, so that Nginx and
# the other services turn to the next address before they have sent anything, and it answers what it has begun.
# Nginx finds the new one by name, and the port of that opens when it can answer. Nginx is not reloaded: that
# would close the clients' idle connections, and a request just on its way on one of them would fail.
set -euo pipefail
cd "$(dirname "$0")/.."

# As stop_grace_period in docker-compose.yml.
GRACE_SECONDS=30
HEALTH_SECONDS=${WAIT_SECONDS:-120}
# Nginx keeps for a second what a name means.
NAME_SECONDS=2
service=${1:-} wanted=0 leaving=""

die() {
    echo "$*" >&2
    exit 1
}

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

replicas() { compose ps -q "$service" | sort; }
name() { docker inspect --format '{{.Name}}' "$1" | tr -d /; }
health() { docker inspect --format '{{.State.Health.Status}}' "$1"; }
scale() { compose up -d --no-deps --no-recreate --scale "$service=$1" "$service" >/dev/null 2>&1; }

wait_for_health() {
    local deadline=$((SECONDS + HEALTH_SECONDS))
    until [ "$(health "$1")" = healthy ]; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.5
    done
}

# Add a replica, so that there are $1.
add() {
    local before added
    before=$(replicas)
    scale "$1" || die "No further replica of $service can be started; those that are there go on."
    added=$(comm -13 <(echo "$before") <(replicas))
    if ! wait_for_health "$added"; then
        docker logs --tail 20 "$added" >&2
        wanted=0
        docker rm --force "$added" >/dev/null
        die "The new replica did not become healthy and was removed; $(replicas | wc -l) of the old go on."
    fi
    echo "$(name "$added") is healthy."
    sleep "$NAME_SECONDS"
}

# Have a replica finish what it has begun and end.
retire() {
    local was status
    leaving=$1 was=$(name "$1")
    docker stop -t "$GRACE_SECONDS" "$1" >/dev/null
    status=$(docker inspect --format '{{.State.ExitCode}}' "$1")
    docker rm "$1" >/dev/null
    leaving=""
    [ "$status" = 0 ] || die "$was had not finished after $GRACE_SECONDS s and was killed; the others were left alone."
    echo "$was has finished its requests and is gone."
}

# However this ends, there are at least as many replicas as before.
put_back() {
    if [ -n "$leaving" ]; then
        # It was told to end already, and may be finishing.
        docker stop -t "$GRACE_SECONDS" "$leaving" >/dev/null 2>&1 || true
        docker rm --force "$leaving" >/dev/null 2>&1 || true
    fi
    [ "$(replicas | wc -l)" -ge "$wanted" ] || scale "$wanted"
}

case $service in
    user-service | product-service | order-service | notification-service) ;;
    *) die "Name a service that Nginx leads to: make rolling-restart SERVICE=order-service" ;;
esac
old=$(replicas)
[ -n "$old" ] || die "$service does not run: make up starts it."
for replica in $old; do
    [ "$(health "$replica")" = healthy ] || die "$(name "$replica") is not healthy, so nothing was restarted."
done

compose build --quiet "$service"
wanted=$(wc -l <<<"$old")
trap put_back EXIT
if [ "$wanted" = 1 ]; then
    # Somebody has to serve meanwhile, so the new one comes first.
    add 2
    retire "$old"
else
    for replica in $old; do
        retire "$replica"
        add "$wanted"
    done
fi
