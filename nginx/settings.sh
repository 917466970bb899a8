#!/bin/sh
# Print the part of the configuration that follows the settings, in both modes; Nginx reads it at each start.
# What can't be used is refused in one sentence on stderr, with exit status 1.
#
# Reads EDGE_LIMIT_LOGIN, EDGE_LIMIT_WRITE, EDGE_LIMIT_READ, EDGE_LIMIT_DOCS (requests of one address in a
# minute), EDGE_LIMIT_CONNECTIONS (requests of one address at once), CORS_ORIGINS (separated by commas) and
# HSTS_SECONDS. Missing or 0 is off.
set -eu

die() {
    echo "$*" >&2
    exit 1
}

number() {
    case $2 in
        *[!0-9]* | ??????????*) die "$1 in .env must be a number: 0 (off) or more." ;;
    esac
    echo "${2:-0}" | sed 's/^0*\(.\)/\1/'
}

# The whole of a minute may come at once; after that requests pass as fast as the minute's are spread.
limit_requests() {
    rate=$(number "$1" "$3")
    pause=1
    if [ "$rate" -gt 0 ]; then
        echo "limit_req_zone \$$2_address zone=$2:10m rate=${rate}r/m;"
        echo "limit_req zone=$2 burst=$rate nodelay;"
        pause=$(((60 + rate - 1) / rate))
    fi
    pauses="$pauses $2 $pause;"
}

pauses="default 1;"
limit_requests EDGE_LIMIT_LOGIN login "${EDGE_LIMIT_LOGIN:-}"
limit_requests EDGE_LIMIT_WRITE write "${EDGE_LIMIT_WRITE:-}"
limit_requests EDGE_LIMIT_READ read "${EDGE_LIMIT_READ:-}"
limit_requests EDGE_LIMIT_DOCS docs "${EDGE_LIMIT_DOCS:-}"
# What the refusals say in Retry-After: when the next request of the class would pass.
echo "map \$route_class \$limit_pause { $pauses }"

connections=$(number EDGE_LIMIT_CONNECTIONS "${EDGE_LIMIT_CONNECTIONS:-}")
if [ "$connections" -gt 0 ]; then
    echo "limit_conn_zone \$binary_remote_addr zone=connections:10m;"
    echo "limit_conn connections $connections;"
fi

# Matched whole and with case, as browsers send them: scheme, host, and the port where it is not the scheme's.
echo "map \$http_origin \$cors_origin {"
echo "    default \"\";"
set -f
for origin in $(echo "${CORS_ORIGINS:-}" | tr ',' ' '); do
    echo "$origin" | grep -Eqx 'https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?' ||
        die "CORS_ORIGINS in .env must list origins such as https://shop.example, in small letters, without a path."
    echo "    \"~^$(echo "$origin" | sed 's/\./\\./g')\$\" \"$origin\";"
done
echo "}"
# A cache must not give one origin's answer to another, once there is more than one answer.
echo "map \"\" \$cors_vary { default \"${CORS_ORIGINS:+Origin}\"; }"

# The groups of Mozilla's profile. The first one keeps what is recorded today from the quantum computers of
# tomorrow; an OpenSSL below 3.5 does not know it, and Nginx would not start.
groups=X25519:prime256v1:secp384r1
case $(nginx -V 2>&1 | sed -n 's/.* with OpenSSL \([0-9.]*\).*/\1/p') in
    3.[5-9].* | 3.[1-9][0-9].* | [4-9].*) groups=X25519MLKEM768:$groups ;;
esac
echo "ssl_ecdh_curve $groups;"

hsts=$(number HSTS_SECONDS "${HSTS_SECONDS:-}")
[ "$hsts" = 0 ] && hsts="" || hsts="max-age=$hsts"
echo "map \$https \$strict_transport { default \"\"; on \"$hsts\"; }"
