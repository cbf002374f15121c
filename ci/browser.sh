#!/bin/sh
# Puts a Chromium on the path for the browser tests, through apt where that is allowed; else says in one line what is
# missing. It fails in CI alone, where the tests must not pass without a browser.
set -eu

missing() {
  printf '%s\n' "no Chromium for tests/browser: $1; install it (Debian: apt-get install chromium) or name one with AUDITOR_CHROMIUM" >&2
  [ -z "${CI:-}" ] || exit 1
  exit 0
}

if [ -n "${AUDITOR_CHROMIUM:-}" ]; then
  [ -x "$AUDITOR_CHROMIUM" ] || missing "AUDITOR_CHROMIUM=$AUDITOR_CHROMIUM is no program"
  exit 0
fi
for name in chromium chromium-browser google-chrome-stable google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
command -v apt-get >/dev/null 2>&1 || missing "there is no apt-get here"
as_root=
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true >/dev/null 2>&1 || missing "installing it takes root"
  as_root="sudo -n"
fi
printf '%s\n' "installing Chromium" >&2
$as_root apt-get update -qq >/dev/null || true
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
  >/dev/null || missing "apt-get could not install it"
