#!/bin/sh
# Audits a checkpoint, leaves every report behind, and ends with the audit's exit code: 0 passed, 1 failed, 2 usage,
# 3 incomplete. It is the one gate; the GitHub action and the GitLab template only call it.
#
#   ci/gate.sh [SOURCE]
#
# Everything comes through the environment, so that no template ever writes into a script:
#
#   AUDITOR_SOURCE    the checkpoint, where no argument names it
#   AUDITOR_POLICY    a policy file       AUDITOR_BASELINE  an earlier report
#   AUDITOR_DEPTH     headers (default), sample or full
#   AUDITOR_FAIL_ON   error (default), warning or never
#   AUDITOR_OUT       the folder of the reports (default: auditor-report)
#   AUDITOR           the command (default: auditor)
#
# Whatever the policy says, symlinks that leave the checkpoint are not read. A policy, a baseline or a report folder
# inside the checkpoint is refused: the uploader must not choose what is checked, nor where reports are written.
set -u
LC_ALL=C
export LC_ALL

auditor=${AUDITOR:-auditor}
source=${1:-${AUDITOR_SOURCE:-}}
policy=${AUDITOR_POLICY:-}
baseline=${AUDITOR_BASELINE:-}
depth=${AUDITOR_DEPTH:-headers}
fail_on=${AUDITOR_FAIL_ON:-error}
out=${AUDITOR_OUT:-auditor-report}
reports="json html sarif junit markdown"

file_of() {
  case $1 in
    json) echo "$out/report.json" ;;
    html) echo "$out/report.html" ;;
    sarif) echo "$out/report.sarif" ;;
    junit) echo "$out/report.junit.xml" ;;
    markdown) echo "$out/report.md" ;;
  esac
}

usage() {
  printf 'gate: %s\n' "$*" >&2
  exit 2
}

# Whether a path lies in the checkpoint, symlinks followed.
inside() {
  [ -d "$source" ] || return 1
  root=$(CDPATH='' cd -P -- "$source" && pwd) || return 1
  folder=$1
  [ -d "$folder" ] || folder=$(dirname -- "$folder")
  folder=$(CDPATH='' cd -P -- "$folder" 2>/dev/null && pwd) || return 1
  case $folder/ in "$root"/*) return 0 ;; esac
  return 1
}

[ $# -le 1 ] || usage "one SOURCE, the rest comes through the environment"
[ -n "$source" ] || usage "no SOURCE: name it as the argument or in AUDITOR_SOURCE"
for value in "$source" "$policy" "$baseline" "$depth" "$fail_on" "$out"; do
  case $value in
    -*) usage "a value may not begin with a dash" ;;
    *[[:cntrl:]]*) usage "a value may not hold control characters" ;;
  esac
done
for value in "$policy" "$baseline"; do
  [ -z "$value" ] || ! inside "$value" || usage "$value lies in the checkpoint that it shall judge"
done
[ ! -L "$out" ] || usage "$out is a symlink: reports are not written through one"
mkdir -p -- "$out" || usage "$out cannot be made"
! inside "$out" || usage "$out lies in the checkpoint: reports are written elsewhere"

# What an earlier run left is not this run's.
for kind in $reports; do rm -f -- "$(file_of "$kind")"; done
rm -f -- "$out/gate.env"

set -- audit "$source" --symlinks inside --depth "$depth" --fail-on "$fail_on"
[ -z "$policy" ] || set -- "$@" --policy "$policy"
[ -z "$baseline" ] || set -- "$@" --baseline "$baseline"
for kind in $reports; do set -- "$@" "--$kind" "$(file_of "$kind")"; done

# Names from a checkpoint must not act as commands of the runner that reads this log.
marker=
if [ "${GITHUB_ACTIONS:-}" = true ]; then
  marker=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  printf '::stop-commands::%s\n' "$marker"
fi
"$auditor" "$@"
code=$?
[ -z "$marker" ] || printf '\n::%s::\n' "$marker"

case $code in
  0) verdict=passed ;;
  1) verdict=failed ;;
  2) verdict=usage ;;
  3) verdict=incomplete ;;
  *)
    printf 'gate: %s ended with %s, so nothing was decided\n' "$auditor" "$code" >&2
    verdict=incomplete
    code=3
    ;;
esac
if [ "$code" -le 1 ] && [ ! -s "$(file_of json)" ]; then
  printf 'gate: %s ended with %s and left no report, so nothing was decided\n' "$auditor" "$code" >&2
  verdict=incomplete
  code=3
fi
# In the report's JSON a text has no line break, so no name can look like this line of it.
fingerprint=
if [ -f "$(file_of json)" ]; then
  fingerprint=$(sed -n '/^  "source": {$/,/^  }/s/^    "fingerprint": "\([0-9a-f]\{64\}\)",\{0,1\}$/\1/p' "$(file_of json)")
fi

{
  printf 'AUDITOR_VERDICT=%s\nAUDITOR_EXIT_CODE=%s\nAUDITOR_FINGERPRINT=%s\n' "$verdict" "$code" "$fingerprint"
} >"$out/gate.env" || code=3
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  {
    printf 'verdict=%s\nexit-code=%s\nfingerprint=%s\nout=%s\n' "$verdict" "$code" "$fingerprint" "$out"
    for kind in $reports; do
      if [ -f "$(file_of "$kind")" ]; then printf '%s=%s\n' "$kind" "$(file_of "$kind")"; fi
    done
  } >>"$GITHUB_OUTPUT" || code=3
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$(file_of markdown)" ]; then
  cat -- "$(file_of markdown)" >>"$GITHUB_STEP_SUMMARY" || code=3
fi
exit "$code"
