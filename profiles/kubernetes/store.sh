#!/usr/bin/env bash
# A study whose state lives in an object store, called in the checkout's folder; see docs/cloud.md.
#   store.sh pull            fetch it; what is newer here stays
#   store.sh push            store it; nothing but outdated marks is ever deleted there
#   store.sh run COMMAND...  pull, run, push every EVERY seconds, at the end and before SIGTERM's grace ends
# STORE names the place as rclone does (s3:BUCKET/FOLDER). The rest, credentials too, are rclone's own variables.
set -uo pipefail
: "${STORE:?the place of the study, as in STORE=s3:BUCKET/FOLDER}"
EVERY=${EVERY:-300}
FILES=(results resources/datasets resources/weights)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "store: $*" >&2; }

# Arguments of find. No stamp: everything. By the time of change, not of modification: unpacked files keep theirs.
changed() { if [ -e "$work/stamp" ]; then find "$@" -cnewer "$work/stamp"; else find "$@"; fi; }

# Whole files alone. Links go as links: data that lie elsewhere stay there.
finished() {
  mkdir -p "${FILES[@]}"
  changed "${FILES[@]}" \( -type f -o -type l \) ! -name '.*.tmp*' ! -name '*.part' ! -name '*.incomplete' \
    ! -name '*.lock' ! -path "${SKIP:-}" -printf '%p\n' -type l -printf '%p.rclonelink\n'
}

marks() { cp -Rp .snakemake/incomplete "$work/now/"; }

# Records are taken before files and stored after them, so none is newer there than its file. A job's mark of
# being under way is there before anything of it, and goes when a later push finds the job at its end.
push() {
  local place=$STORE/.snakemake only=()
  mkdir -p .snakemake/metadata .snakemake/incomplete
  rm -rf "$work/now" && mkdir -p "$work/now/metadata" && touch -d '2 seconds ago' "$work/began" || return
  (cd .snakemake && changed metadata -type f -print0 | xargs -0r cp -p --parents -t "$work/now") || return
  marks && rclone copy "$work/now/incomplete" "$place/incomplete" || return
  finished > "$work/files" || return
  [ -e "$work/stamp" ] && only=(--no-traverse)
  grep -v '/logs/' "$work/files" > "$work/whole"
  grep '/logs/' "$work/files" > "$work/growing" \
    && rclone copy . "$STORE" --files-from-raw "$work/growing" "${only[@]}" --local-no-check-updated
  rclone copy . "$STORE" --links --files-from-raw "$work/whole" "${only[@]}" || return
  marks && rclone sync "$work/now/incomplete" "$place/incomplete" || return
  rclone copy "$work/now/metadata" "$place/metadata" && mv "$work/began" "$work/stamp"
}

# Records first: of a store that is written to meanwhile, files may be newer than their record, never older.
pull() {
  [ -n "$(rclone lsf "$STORE")" ] || { say "nothing in $STORE"; return 1; }
  mkdir -p .snakemake/metadata .snakemake/incomplete
  rclone copy "$STORE" . --update --include '/.snakemake/{metadata,incomplete}/**' || return
  rclone copy "$STORE" . --update --links --include '/{results,resources}/**'
}

run() {
  if ! { date -u | rclone rcat "$STORE/last-run.txt" && pull; }; then
    say "cannot use $STORE: nothing was run"
    return 1
  fi
  local command status due=$((SECONDS + EVERY))
  "$@" & command=$!
  trap 'say "ends early"; kill -TERM "$command" 2> /dev/null; EVERY=10 due=0' TERM INT
  while kill -0 "$command" 2> /dev/null; do
    sleep 1
    [ "$SECONDS" -ge "$due" ] || continue
    push || say "not everything could be stored: trying again in $EVERY s"
    due=$((SECONDS + EVERY))
  done
  wait "$command"; status=$?
  push || push || { say "the end could not be stored"; [ "$status" -ne 0 ] || status=1; }
  return "$status"
}

case ${1:-} in
  pull | push) "$1" ;;
  run) shift; run "$@" ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
