#!/bin/sh
# Makes a virtual environment at $1 with the pinned pip, installing Python's venv module where the system lacks it.
set -eu

target=$1
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
  if new_enough "$candidate"; then python=$candidate; break; fi
done
[ -n "$python" ] || { say "no Python 3.11 or later found: install one, or name it with make PYTHON=..."; exit 1; }

make_venv() { rm -rf "$target" && "$python" -m venv "$target" >/dev/null 2>&1; }

if ! make_venv; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  cannot="python$version cannot make virtual environments; install its venv module (Debian: apt-get install python3-venv)"
  command -v apt-get >/dev/null 2>&1 || { say "$cannot"; exit 1; }
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { say "$cannot, as root: there is no sudo here"; exit 1; }
    as_root="sudo -n"
  fi
  say "installing python$version's venv module"
  install() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null; }
  $as_root apt-get update -qq >/dev/null || true
  install "python$version-venv" || install python3-venv || { say "$cannot"; exit 1; }
  make_venv || { say "$cannot"; exit 1; }
fi

"$target/bin/python" -m pip install -qq --disable-pip-version-check -c "$root/ci/constraints.txt" --upgrade pip
