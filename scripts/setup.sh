#!/usr/bin/env bash
# Installs what the build lacks, and nothing else: a C++20 compiler and linker (RocksDB), and Rust.
# No libclang, cmake or protoc: third_party/bindgen-prebuilt holds RocksDB's bindings.
#
#   scripts/setup.sh            what building and testing need
#   scripts/setup.sh --checks   also rustfmt and clippy
#
# Where installing is not permitted it prints the one line to run, changes nothing and fails. With
# nothing lacking it prints nothing. tests/setup.rs runs it with every tool below replaced.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
os_release=${ENFILADE_OS_RELEASE:-/etc/os-release}
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

say() { printf 'set-up: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

os_name() {
  local name
  name=$(sed -n 's/^PRETTY_NAME=//p' "$os_release" 2>/dev/null | tr -d '"') || true
  printf '%s' "${name:-this system}"
}

# The compiler that the crate `cc` will run, asked whether it can do what RocksDB needs.
has_cxx() {
  has cc && "${CXX:-c++}" -std=c++20 -x c++ -fsyntax-only - >/dev/null 2>&1 <<'CXX'
#include <version>
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 11
#error "RocksDB needs g++ 11 or newer"
#endif
CXX
}

wanted_rust() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml"; }

# True when `cargo` runs and the compiler behind it is new enough. Asked in the checkout, where an
# override of rustup's may hold.
has_rust() {
  local have major minor want
  want=$(wanted_rust)
  has cargo || return 1
  have=$(cd "$root" && rustc --version 2>/dev/null) || return 1
  have=${have#rustc }
  major=${have%%.*}
  minor=${have#*.}
  minor=${minor%%.*}
  [ "$major" -gt "${want%%.*}" ] || { [ "$major" -eq "${want%%.*}" ] && [ "$minor" -ge "${want#*.}" ]; }
}

# Debian and Ubuntu packages that are lacking; curl only where rustup has to be fetched.
lacking_packages() {
  has_cxx || printf 'build-essential\n'
  if ! has_rust && ! has rustup && ! has curl; then
    printf 'curl\nca-certificates\n'
  fi
}

install_packages() {
  local packages=("$@") as_root=()
  local line="sudo apt-get update && sudo apt-get install -y ${packages[*]}"
  has apt-get || die "no apt-get here; install g++ (11 or newer), make, curl and ca-certificates with the package manager of $(os_name) and run again"
  if [ "$(id -u)" -ne 0 ]; then
    if ! has sudo || ! sudo -n true >/dev/null 2>&1; then
      say "installing packages is not permitted here; run this line, then try again:"
      printf '%s\n' "$line" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  say "$(os_name) lacks ${packages[*]}; installing"
  # A stale list of an unrelated source must not stop the set-up; the install tells what is wrong.
  ${as_root[@]+"${as_root[@]}"} apt-get update || say "apt-get update failed; going on with the lists as they are"
  # A fresh Ubuntu may hold the lock for its own updates during its first minutes.
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}"
}

install_rust() {
  local installer
  if has rustup; then
    say "Rust is older than $(wanted_rust); installing the stable toolchain"
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy
    # The caller's default toolchain stays what it was; only this checkout uses stable.
    has_rust || rustup override set stable --path "$root"
  else
    say "no Rust $(wanted_rust) here; installing it with rustup"
    installer=$(mktemp)
    # shellcheck disable=SC2064  # the name as it is now
    trap "rm -f '$installer'" EXIT
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" \
      || die "fetching https://sh.rustup.rs failed; Rust $(wanted_rust) or newer must be installed by hand"
    # An older Rust of the distribution stays in place, behind rustup's on PATH.
    RUSTUP_INIT_SKIP_PATH_CHECK=yes sh "$installer" -y --profile minimal \
      --default-toolchain stable --component rustfmt --component clippy
  fi
}

main() {
  local packages
  mapfile -t packages < <(lacking_packages)
  if [ "${#packages[@]}" -gt 0 ]; then
    install_packages "${packages[@]}"
    has_cxx || die "the C++ compiler of $(os_name) cannot build RocksDB: g++ 11 or newer is needed"
  fi
  if ! has_rust; then
    install_rust
    hash -r
    has_rust || die "Rust $(wanted_rust) or newer is needed; found: $(rustc --version 2>&1 || true)"
  fi
  if [ "${1:-}" = --checks ] && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
    has rustup || die "rustfmt and clippy are lacking, and there is no rustup to add them"
    say "adding rustfmt and clippy"
    (cd "$root" && rustup component add rustfmt clippy)
  fi
}

main "$@"
