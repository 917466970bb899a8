#!/bin/sh
# Keep access.log and error.log below 5 × 20 MB each: rename what has grown, then have Nginx open new files.
# Usage: rotate-logs.sh LOG_FOLDER PID_FILE
set -u
folder=$1 pid_file=$2
# Below 20 MB by what a busy server writes between two looks.
LIMIT=$((16 * 1024 * 1024))
PAUSE=5

rotate() {
    for number in 3 2 1; do
        [ ! -e "$1.$number" ] || mv "$1.$number" "$1.$((number + 1))"
    done
    mv "$1" "$1.1"
}

while sleep "$PAUSE"; do
    grown=""
    for log in "$folder/access.log" "$folder/error.log"; do
        size=$(stat -c %s "$log" 2>/dev/null) || continue
        [ "$size" -lt "$LIMIT" ] || { rotate "$log" && grown=yes; }
    done
    [ -z "$grown" ] || kill -USR1 "$(cat "$pid_file")"
done
