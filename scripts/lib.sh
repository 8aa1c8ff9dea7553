# What the set-up scripts share: messages, the system's packages, tools from PyPI and npm. Sourced by POSIX shells, with the
# repository as the working directory.

# Where programs go that only tests and benches run against: see scripts/peers.
PEERS=.jetway/peers

# The caller's name goes in front of what it says.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- running as root, if need be and if possible ---

is_root() { [ "$(id -u)" -eq 0 ]; }

# Whether as_root can work: sudo may ask for a password only where somebody can type one.
can_be_root() { is_root || { have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }; }

as_root() { if is_root; then "$@"; else sudo "$@"; fi; }

# --- Debian and Ubuntu ---

apt_updated=''

# apt_install PACKAGE...: installs them.
apt_install() {
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -q >&2
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-upgrade --no-install-recommends "$@" >&2
}

# --- tools that only tests and benches need ---

# python_tool NAME REQUIREMENT...: a virtual environment $PEERS/NAME with exactly these packages, made anew when they change.
python_tool() {
    tool=$PEERS/$1
    shift
    if [ -x "$tool/bin/python3" ] && [ "$(cat "$tool/installed" 2>/dev/null)" = "$*" ]; then return; fi
    if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1 && have apt-get && can_be_root; then
        say 'installing python3-venv'
        apt_install python3 python3-venv
    fi
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        die 'no Python 3 with its venv module: an administrator installs the package python3-venv'
    say "installing $* into $tool"
    rm -rf "$tool"
    mkdir -p "$PEERS"
    python3 -m venv "$tool"
    "$tool/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: "$@" >&2 ||
        die "pip could not install $*, and said above why"
    printf '%s' "$*" >"$tool/installed"
}
