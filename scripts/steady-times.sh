#!/usr/bin/env bash
# Keeps a build folder that outlives the checkout warm: cargo goes by the times of files, and in a
# fresh clone all are new. For our own crates that costs minutes; for third_party, which RocksDB's
# build script depends on, it would compile RocksDB again.
#
# A stamp in the build folder holds the checksum of third_party and, as its own time, when that
# content came. While the content is the same, its files get the stamp's time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
stamp=$target/third-party.stamp
mapfile -t files < <(find third_party -type f | LC_ALL=C sort)
sum=$(sha256sum "${files[@]}" | sha256sum)

mkdir -p "$target"
if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
  printf '%s\n' "$sum" >"$stamp.new"
  mv "$stamp.new" "$stamp"
fi
touch --no-create --reference="$stamp" "${files[@]}"
