# For the set-up steps that are shell scripts: `. secret.sh`, then `read_secret NAME` for each secret.
# It takes the content of the file that NAME_FILE names, and with APP_ENV=production refuses what
# .env.example publishes. A message names the setting and never its value.

refuse() {
    echo "$*" >&2
    exit 1
}

read_secret() {
    eval "secret=\${$1:-} secret_file=\${$1_FILE:-}"
    if [ -n "$secret_file" ]; then
        [ -z "$secret" ] || refuse "Both $1 and $1_FILE are set: leave one of them out."
        [ -r "$secret_file" ] || refuse "$1_FILE names a file that can't be read: $secret_file."
        secret=$(cat "$secret_file")
        export "$1=$secret"
    fi
    case ${APP_ENV:-}:$secret in
        production: | production:rabbitmq123 | production:admin123456 | production:*-change-me)
            refuse "APP_ENV=production, but $1 in .env is missing or still the example's: choose another."
            ;;
    esac
}
