#!/bin/sh
# Install what the suite needs from the distribution's packages, when something is missing (Debian, Ubuntu).
# The packages do not start servers of their own, and a server that was already there is left alone.
set -eu

POLICY=/usr/sbin/policy-rc.d
MARK="made by ecommerce-basic for the time of an installation"

has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

has_postgres() {
    for server in /usr/lib/postgresql/*/bin/postgres; do
        version=${server#/usr/lib/postgresql/}
        [ -x "$server" ] && [ "${version%%/*}" -ge 15 ] && return 0
    done
    return 1
}

has_python() {
    for python in /usr/bin/python3 /usr/bin/python3.1[1-9] python3 python3.11 python3.12 python3.13; do
        "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
    done
    return 1
}

python_packages() {
    if /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo python3-venv
    else
        echo python3.11 python3.11-venv
    fi
}

missing() {
    has_python || python_packages
    has_postgres || { apt-cache show postgresql-15 >/dev/null 2>&1 && echo postgresql-15 || echo postgresql; }
    has redis-server || echo redis-server
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo rabbitmq-server
    has nginx || echo nginx
    has openssl || echo openssl
}

# Forbid packages to start servers until allow_starts; a policy that was already there is put aside meanwhile.
forbid_starts() {
    [ ! -e "$POLICY" ] || grep -q "$MARK" "$POLICY" || mv "$POLICY" "$POLICY.before-ecommerce-basic"
    printf '#!/bin/sh\n# %s\nexit 101\n' "$MARK" >"$POLICY"
    chmod 755 "$POLICY"
}

allow_starts() {
    rm -f "$POLICY"
    [ ! -e "$POLICY.before-ecommerce-basic" ] || mv "$POLICY.before-ecommerce-basic" "$POLICY"
}

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# The units by which new packages would start servers at the next boot, on the suite's ports.
# What an installed package shares with them (another PostgreSQL, another Erlang) stays enabled.
new_units() {
    for package in "$@"; do
        case $package in
            postgresql*) is_installed postgresql-common || echo postgresql ;;
            rabbitmq-server)
                echo rabbitmq-server
                is_installed erlang-base || echo epmd.socket
                ;;
            redis-server | nginx) echo "$package" ;;
        esac
    done
}

install() {
    echo "Installing the missing packages: $* …"
    trap allow_starts EXIT
    trap 'exit 1' INT TERM HUP
    forbid_starts
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    units=$(new_units "$@")
    if ! { apt-get -o DPkg::Lock::Timeout=300 update -q &&
        apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        echo "apt-get could not install these packages: $*. Install them and run make up again." >&2
        exit 1
    fi
    rm -f "$log"
    [ ! -d /run/systemd/system ] || [ -z "$units" ] || systemctl disable --quiet $units || true
}

if [ "${1:-}" = --install ]; then
    shift
    install "$@"
    exit
fi

if ! has apt-get; then
    if [ -z "$(missing)" ]; then exit 0; fi
    echo "This system has no apt-get: install Python 3.11 or later, PostgreSQL 15 under /usr/lib/postgresql," \
        "Redis 7, RabbitMQ 3.10 or later under /usr/lib/rabbitmq, Nginx and OpenSSL, or use Docker." >&2
    exit 1
fi

packages=$(missing | tr '\n' ' ')
packages=${packages% }
[ -n "$packages" ] || exit 0
# The names are words of their own on purpose.
# shellcheck disable=SC2086
if [ "$(id -u)" -eq 0 ]; then
    "$0" --install $packages
elif has sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo "$0" --install $packages
else
    echo "These packages are missing and installing them needs root: $packages. Run as root:" \
        "apt-get install --no-install-recommends $packages" >&2
    exit 1
fi
