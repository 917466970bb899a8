# shellcheck shell=bash
# Backup, restore, and the move from one mode to the other; read by scripts/suite.sh, which knows the mode.

KEPT="backups"
OURS="user-service product-service order-service notification-service user-service-worker product-service-worker
order-service-worker notification-service-worker notification-celery"
# What to say, should the command end here: by Ctrl-C, or because a step fails that has no message of its own.
left=""

# From here on an end says what is left, but for a restore within a move: the move has the last word.
say_what_is_left() {
    # What it runs says nothing of the kind.
    export SAYS_WHAT_IS_LEFT=1
    trap '[ -z "$left" ] || [ -n "${WITHIN_MOVE:-}" ] || echo "$left" >&2' EXIT
    # Stops that were begun go on in spite of Ctrl-C, and what is said holds only once they are over.
    trap 'wait; exit 1' INT TERM HUP
}

fail() {
    left=""
    die "$@"
}

# Run one of the scripts of deploy/setup beside the database server.
on_server() { # SCRIPT ARGUMENT …
    scripts/suite.sh run postgres sh -c "$(cat "deploy/setup/$1")" "$@"
}

service() { scripts/suite.sh run "$@" </dev/null; }

# Which KEY_ENCRYPTION_SECRET the suite has; it tells nothing that the encrypted keys in a backup don't.
key_of() { # SALT
    service user-service flask keys fingerprint --salt "$1" | tail -n 1
}

backup() {
    local salt key
    salt=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
    key=$(key_of "$salt") || die "The user service does not tell its key, so nothing was backed up; make status shows why."
    write_backup "$salt" "$key"
}

write_backup() { # SALT KEY
    local file part
    umask 077
    mkdir -p "$root/$KEPT"
    file="$root/$KEPT/shop-$(date -u +%Y%m%dT%H%M%SZ).tar"
    part="$file.part"
    if ! on_server backup.sh "mode=$mode" "salt=$1" "key=$2" </dev/null >"$part" || ! is_whole "$part"; then
        rm -f "$part"
        die "No backup was made."
    fi
    { sync "$part" && mv "$part" "$file"; } || die "No backup was made."
    echo "$file  $(fact "$file" taken_at)  writes waited $(fact "$file" held_ms) ms  $(du -h "$file" | cut -f1)"
}

is_whole() { # FILE
    # Read to its end, in which a file that was cut off shows.
    [ "$(tar -tf "$1" 2>/dev/null | tr '\n' ' ')" = "manifest sums user.dump product.dump order.dump notification.dump " ] &&
        [ "$(fact "$1" format)" = 1 ]
}

# A fact of a backup's manifest.
fact() { # FILE NAME
    tar -xOf "$1" manifest 2>/dev/null | sed -n "s/^$2=//p"
}

# A line a queue, with the events that have an effect on its reader.
queues_read() {
    local name found
    for name in product-service notification-service; do
        found=$(service "$name" flask consumers) || return 1
        grep '\.events ' <<<"$found" || return 1
    done
}

restore() {
    local file=${1:-} queues sent salt key
    [ -n "$file" ] || die "Name a backup: make restore FILE=$KEPT/shop-….tar"
    [ -r "$file" ] || die "There is no backup $file that can be read."
    is_whole "$file" || die "$file is no whole backup of a shop."
    left="Nothing was restored; the suite may be half up: run it again, or stop it by make down."
    say_what_is_left
    [ -n "${WITHIN_MOVE:-}" ] || echo "starting the suite, if it does not run yet"
    scripts/suite.sh up >/dev/null
    # Not nested: a trap that runs within nested substitutions upsets Bash.
    salt=$(fact "$file" salt)
    key=$(key_of "$salt") || fail "The user service does not tell its key, so nothing was restored; make status shows why."
    [ "$key" = "$(fact "$file" key)" ] ||
        fail "KEY_ENCRYPTION_SECRET is not the one of the backed up suite, so its signing keys could not be read: set that one in .env."
    if ! on_server restore.sh check "$(fact "$file" postgres)" </dev/null; then
        left=""
        exit 1
    fi
    echo "restoring $file, which takes about a minute"
    queues=$(queues_read) || fail "The services don't tell which events they read, so nothing was restored; make status shows why."
    mapfile -t queues <<<"$queues"
    left="The restore was broken off: make up starts the services again, then run it again; it is refused when the shop is there already."
    halt
    if ! sent=$(on_server restore.sh restore "${queues[@]}" <"$file"); then
        scripts/suite.sh up >/dev/null
        [ -z "${WITHIN_MOVE:-}" ] || fail "Nothing was restored."
        fail "Nothing was restored; the suite is as it was."
    fi
    left="The shop is restored, but what follows was broken off: make up, then scripts/service.sh order-service flask reconcile shows whether its books agree."
    scripts/suite.sh up >/dev/null
    echo "restored the shop of $(fact "$file" taken_at)"
    echo "$sent events sent again that may not have been handled"
    agree
    left=""
}

# Reconcile once the events have arrived, and again while what they cause is under way.
agree() {
    local deadline=$((SECONDS + ${WAIT_SECONDS:-120})) found status
    while true; do
        status=0
        # Its complaints are kept too: they count only when this goes on, and Ctrl-C makes it complain.
        found=$(service order-service flask reconcile 2>&1) || status=$?
        if [ "$status" = 0 ] && [ "$(on_server restore.sh unsent </dev/null)" = 0 ]; then break; fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "$found"
            fail "The shop is restored, but its books don't agree: see docs/operations.md."
        fi
        sleep 1
    done
    echo "$found"
}

# Stop the services; the servers, and so their data, stay reachable.
halt() {
    local name
    if [ "$mode" = plain ]; then
        # Broken off, those that ask for it would leave the supervisor stopping with nobody waiting.
        for name in $OURS; do (trap '' INT HUP && plain stop "$name") & done
        wait
    else
        # One word a service, on purpose.
        # shellcheck disable=SC2086
        compose stop $OURS
    fi
}

# Where the data of a folder really is, when the servers' users can't enter the clone and it holds links: those that
# the launcher makes always include `run`, and any other may be the operator's own.
real_of() { # FOLDER
    [ ! -L "$1/run" ] || dirname "$(readlink "$1/run")"
}

# Put data and what it leads to aside. Whoever goes back needs all of it, or nothing of it.
put_aside() { # ASIDE REAL
    [ -z "$2" ] || mv "$2" "$(dirname "$2")/$1" || return 1
    if mv "$root/data" "$root/$1"; then
        mkdir -p "$root/data" && return
        mv "$root/$1" "$root/data"
    fi
    [ -z "$2" ] || mv "$(dirname "$2")/$1" "$2"
    return 1
}

# How to bring the shop back as it was.
way_back() { # ASIDE REAL FILE
    local new failed="data.failed-${1##*-}"
    new=$(real_of "$root/data")
    echo "The move did not succeed. The shop as it was before is in $root/$1, and in $3. To go back to it:"
    echo "  make down"
    printf '  mv %q %q\n' "$root/data" "$root/$failed"
    [ -z "$new" ] || printf '  mv %q %q\n' "$new" "$(dirname "$new")/$failed"
    [ -z "$2" ] || printf '  mv %q %q\n' "$(dirname "$2")/$1" "$2"
    printf '  mv %q %q\n' "$root/$1" "$root/data"
    echo "  make up"
}

# The data of the one mode is no use to the other, so a backup carries the shop over. The old data is kept.
move() {
    local wanted=${TO:-} old=$mode salt key tls
    case $wanted in docker | plain) ;; *) die "Name the mode: make move MODE=docker or make move MODE=plain" ;; esac
    [ -n "$(mode_of_data)" ] || die "There is no shop here to move: make up MODE=$wanted starts a new one."
    [ "$wanted" != "$old" ] || die "The suite is in $wanted mode already."
    [ "$wanted" = plain ] || engine_answers || die "No Docker engine answers: start it first."
    left="Nothing was moved; make up starts the shop again."
    say_what_is_left
    scripts/suite.sh up >/dev/null
    salt=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
    key=$(key_of "$salt") || fail "The user service does not tell its key, so nothing was moved."
    # From here on nobody buys what the backup would not hold.
    halt
    if ! file=$(write_backup "$salt" "$key"); then
        scripts/suite.sh up >/dev/null
        fail "Nothing was moved; the suite runs as before."
    fi
    file=${file%%.tar  *}.tar
    scripts/suite.sh down
    aside="data.$old-$(date -u +%Y%m%dT%H%M%SZ)"
    real=$(real_of "$root/data")
    trap '' INT TERM HUP
    put_aside "$aside" "$real" || exit 1
    left=moved
    trap '[ -z "$left" ] || way_back "$aside" "$real" "$file" >&2' EXIT
    trap 'exit 1' INT TERM HUP
    tls="$(dirname "${real:-$root/data}")/$aside/tls"
    [ ! -d "$tls" ] || cp -Rp "$tls" "$root/data/tls" || rm -rf "$root/data/tls"
    MODE=$wanted scripts/suite.sh up
    MODE=$wanted WITHIN_MOVE=1 scripts/suite.sh restore "$file"
    left=""
    echo "The shop has moved to $wanted mode; its old data is in $root/$aside, to be deleted when all is well."
}
