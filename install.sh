#!/bin/sh
# Install bastion, remove it, or run its tests.
#
#   ./install.sh              install, or bring an installation up to date
#   ./install.sh --compile    the same, with the loops over rows compiled: masks on large results take about half the
#                             CPU; needs a C compiler and the headers of Python
#   ./install.sh uninstall    remove what was installed; recordings, configuration and logins stay
#   ./install.sh test         run all checks and tests in an environment of their own; further words are pytest's
#
# Goes below $BASTION_PREFIX: /usr/local as root, ~/.local otherwise. Needs Python 3.11 or newer and the package
# registries. As root on Debian and its relatives, missing system packages are installed with apt-get.
set -eu
umask 022

source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ "$(id -u)" = 0 ]; then
    prefix=${BASTION_PREFIX:-/usr/local}
else
    prefix=${BASTION_PREFIX:-$HOME/.local}
fi
case $prefix in
/*) ;;
*) prefix=$PWD/$prefix ;;
esac
home=$prefix/lib/bastion
manifest=$home/manifest

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  %s\n' "$2" >&2
    exit 1
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Install Debian packages, with their lists brought up to date first.
apt() {
    say "installing with apt-get: $*"
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install: $*"
    fi
    rm -f "$log"
}

# Install the Debian packages in the list $2 that $1 needs, if there are any and we may.
need() {
    [ -n "$2" ] || return 0
    can_apt || fail "$1 needs these packages: $2" "as root: apt-get install $2"
    # shellcheck disable=SC2086 (a list of words)
    apt $2
}

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3; do
        if command -v "$python" >/dev/null && is_recent "$python"; then
            return
        fi
    done
    if can_apt; then
        apt python3
        python=python3
        is_recent "$python" && return
    fi
    fail 'no Python 3.11 or newer was found' 'install one, or name it: PYTHON=/path/to/python3 ./install.sh'
}

# Make an environment at $1 that has pip. Debian's Python comes without what `python -m venv` needs for that.
make_environment() {
    if "$1/bin/python" -m pip --version >/dev/null 2>&1 && is_recent "$1/bin/python"; then
        return
    fi
    rm -rf "$1"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null && can_apt; then
        apt python3-venv
    fi
    say "creating an environment in $1, with $("$python" --version)"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "$1"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$1"
        "$python" -m pip --python "$1/bin/python" install --quiet pip
    else
        "$python" -m venv --without-pip "$1" || no_pip "$1"
        pip_from_debian "$1"
    fi
}

# Take pip from Debian's package without installing that, which anybody may: with package lists and a cache of our own.
pip_from_debian() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || no_pip "$1"
    unpacked=$(mktemp -d)
    mkdir -p "$unpacked/lists/partial" "$unpacked/cache/archives/partial"
    printf 'Dir::State::lists "%s";\nDir::Cache "%s";\n' "$unpacked/lists" "$unpacked/cache" >"$unpacked/apt.conf"
    if ! (cd "$unpacked" && export APT_CONFIG="$unpacked/apt.conf" && apt-get update &&
        apt-get download python3-pip-whl && dpkg-deb -x ./*.deb .) >/dev/null 2>&1; then
        rm -rf "$unpacked"
        no_pip "$1"
    fi
    "$1/bin/python" "$(echo "$unpacked"/usr/share/python-wheels/pip-*.whl)/pip" install --quiet pip
    rm -rf "$unpacked"
}

no_pip() {
    rm -rf "$1"
    fail "$python has neither ensurepip nor pip" 'as root: apt-get install python3-venv'
}

pip_install() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 "$environment/bin/python" -m pip install --quiet --upgrade \
        --root-user-action=ignore "$@" && return
    # An installation that was there is as it was; of a new one nothing is left.
    if [ "$environment" = "$home/venv" ] && [ ! -f "$manifest" ]; then
        rm -rf "$environment"
        rmdir "$home" 2>/dev/null || true
    fi
    fail 'pip could not install bastion' 'its message is above'
}

# Print the Debian packages that compiling with $python lacks: known by compiling what needs them.
lacking_to_compile() {
    "$python" -c 'import os, shlex, subprocess, sys, sysconfig
compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
include = sysconfig.get_paths()["include"]

def compiles(header):
    command = [*compiler, "-I", include, "-fsyntax-only", "-x", "c", "-"]
    try:
        return not subprocess.run(command, input=f"#include <{header}>\n", text=True, capture_output=True).returncode
    except OSError:
        return False

lacking = []
if not compiles("stdlib.h"):
    lacking += ["gcc", "libc6-dev"]
if not os.path.exists(os.path.join(include, "Python.h")):
    lacking += [f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"]
print(*lacking)'
}

# Python decides what counts as a PostgreSQL of this machine: the demo looks with the same code.
has_postgresql() {
    "$environment/bin/python" -I -c 'import sys
from bastion.demo.cluster import machine_installations
sys.exit(not machine_installations())'
}

install_pages() {
    for page in "$source"/man/*.[1-9]; do
        section=$prefix/share/man/man${page##*.}
        mkdir -p "$section"
        cp "$page" "$section/"
        printf '%s\n' "$section/${page##*/}" >>"$manifest"
    done
}

# Link $prefix/bin/bastion to ours, but never over what somebody else put there.
install_link() {
    link=$prefix/bin/bastion
    mkdir -p "$prefix/bin"
    if { [ -e "$link" ] || [ -L "$link" ]; } && [ "$(readlink "$link")" != "$environment/bin/bastion" ]; then
        fail "$link exists and is not ours" 'move it away, or choose another BASTION_PREFIX'
    fi
    ln -sfn "$environment/bin/bastion" "$link"
    printf '%s\n' "$link" >>"$manifest"
}

remove_listed() {
    if [ -f "$manifest" ]; then
        while IFS= read -r path; do
            # What is a link by now, and not to ours, is somebody else's.
            if [ ! -L "$path" ] || [ "$(readlink "$path")" = "$home/venv/bin/bastion" ]; then
                rm -f "$path"
            fi
        done <"$manifest"
    fi
    rm -f "$manifest"
}

install() {
    find_python
    if [ "${1:-}" = --compile ]; then
        missing=$(lacking_to_compile)
        need 'compiling' "$missing"
        export HATCH_BUILD_HOOK_ENABLE_CUSTOM=true
    else
        unset HATCH_BUILD_HOOK_ENABLE_CUSTOM
    fi
    environment=$home/venv
    mkdir -p "$home"
    make_environment "$environment"
    say 'installing bastion and what it builds on; this takes a minute or two'
    pip_install "$source[doctor]"
    if has_postgresql; then
        say 'bastion demo will use the PostgreSQL of this machine'
    else
        say 'this machine has no PostgreSQL: installing an embedded one for bastion demo'
        pip_install "$source[demo,doctor]"
    fi
    remove_listed
    install_link
    install_pages
    say "installed $("$prefix/bin/bastion" --version) in $home"
    case ":$PATH:" in
    *":$prefix/bin:"*) say 'try it: bastion demo' ;;
    *)
        say "$prefix/bin is not on your PATH yet. For this shell: export PATH=\"$prefix/bin:\$PATH\""
        say "try it: $prefix/bin/bastion demo"
        ;;
    esac
}

uninstall() {
    [ -f "$manifest" ] || [ -d "$home/venv" ] || fail "nothing is installed in $home"
    remove_listed
    rm -rf "$home/venv"
    rmdir "$home" 2>/dev/null || say "left in $home, because it is not ours: $(ls -A "$home")"
    say "removed $home, the link and the man pages"
    say "what you did with bastion is still there: see ~/.local/state/bastion and ~/.config/bastion"
}

run_tests() {
    find_python
    environment=$source/.venv
    make_environment "$environment"
    missing=$(lacking_to_compile)
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
    command -v psql >/dev/null || missing="$missing postgresql-client"
    command -v asciinema >/dev/null || missing="$missing asciinema"
    command -v mandoc >/dev/null || missing="$missing mandoc"
    need 'testing' "${missing# }"
    say 'installing bastion with what its tests need; this takes a minute or two'
    pip_install --editable "$source[demo,doctor,test]"
    cd "$source"
    exec "$environment/bin/python" -m tests "$@"
}

case ${1:-} in
'' | --compile) install "$@" ;;
uninstall) uninstall ;;
test)
    shift
    run_tests "$@"
    ;;
*) fail "there is no ./install.sh $1" 'use it without words, or with one of: --compile, uninstall, test' ;;
esac
