# Sourced by the other scripts. Checks for, and installs, what they need beyond git and Rust.
# shellcheck shell=bash

# Prints a heading.
step() {
    printf '\n=== %s\n' "$*"
}

# The argument `--install` allows a script, and the scripts that it calls, to install missing
# packages. So does CI=true.
export POSTRIDER_MAY_INSTALL="${POSTRIDER_MAY_INSTALL:-${CI:-false}}"
arguments=()
for argument in "$@"; do
    if [ "$argument" = --install ]; then
        POSTRIDER_MAY_INSTALL=true
    else
        arguments+=("$argument")
    fi
done
# This sets the caller's arguments, because the file is sourced.
set -- "${arguments[@]}"

# Installs Debian packages if allowed, as root or with sudo. Otherwise prints the missing packages
# and the command to install them.
install() {
    local apt=(apt-get)
    [ "$(id -u)" -eq 0 ] || apt=(sudo apt-get)
    if [ "$POSTRIDER_MAY_INSTALL" != true ] || ! command -v "${apt[0]}" >/dev/null; then
        echo "missing: $*. To install: ${apt[*]} install --yes --no-install-recommends $*" >&2
        return 1
    fi
    step "Installing $*"
    "${apt[@]}" update -qq
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y -qq --no-install-recommends "$@"
}

# LMDB and the cryptography are written in C, and Rust links with the C compiler.
need_c_compiler() {
    if ! command -v cc >/dev/null || ! echo 'int main(void){return 0;}' | cc -xc -o /dev/null - 2>/dev/null; then
        install gcc libc6-dev || exit 1
    fi
}

# Whether the browser tests can run: they need a browser, its driver, and axe-core. If not, prints
# the reason on one line.
need_browser() {
    local missing=() reason
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    command -v npm >/dev/null || missing+=(npm)
    if [ ${#missing[@]} -gt 0 ] && ! reason="$(install "${missing[@]}" 2>&1)"; then
        echo "skipped: browser tests: ${reason##*$'\n'}"
        return 1
    fi
    if ! reason="$(npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error 2>&1)"; then
        echo "skipped: browser tests: cannot install axe-core: ${reason%%$'\n'*}"
        return 1
    fi
}

# Prints Cargo's target directory.
target_dir() {
    echo "${CARGO_TARGET_DIR:-target}"
}

# At build time, bindgen uses libclang to read FoundationDB's C header.
need_libclang() {
    local directory name
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        return
    fi
    for directory in "$(llvm-config --libdir 2>/dev/null)" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu \
        /usr/lib /usr/lib64 /usr/local/lib; do
        # The pattern must not match libclang-cpp, which is another library.
        for name in 'libclang.so*' 'libclang-[0-9]*.so*'; do
            if compgen -G "$directory/$name" >/dev/null; then
                return
            fi
        done
    done
    install libclang-dev || exit 1
}

# Whether the tests run on FoundationDB.
over_foundationdb() {
    [ "${POSTRIDER_TEST_STORE:-embedded}" = foundationdb ]
}

# Restarts a script with a private FoundationDB server, if it needs one and none is configured:
# need_foundationdb SCRIPT [ARGUMENT...]
need_foundationdb() {
    if over_foundationdb && [ -z "${FDB_CLUSTER_FILE:-}" ]; then
        exec scripts/foundationdb run -- "$@"
    fi
}

# Skips tests that apply only to the embedded store, for test runs on FoundationDB.
# shellcheck disable=SC2034
over_foundationdb_skip=(--skip embedded::)

# Builds the node for the tests in the profile `debug` or `release`, with FoundationDB if the tests
# run on it, and exports its path as POSTRIDER_BIN.
build_node() {
    local options=()
    [ "$1" = debug ] || options+=("--$1")
    if over_foundationdb; then
        need_libclang
        options+=(--features foundationdb)
    fi
    cargo build --locked --package postrider-node --bin postrider "${options[@]}"
    POSTRIDER_BIN="$(realpath "$(target_dir)")/$1/postrider"
    if over_foundationdb; then
        # Rename the binary, so that it is not mistaken for the one without FoundationDB.
        # (Remove the target first: if both are hard links to one file, mv does nothing.)
        rm -f "$POSTRIDER_BIN-foundationdb"
        mv "$POSTRIDER_BIN" "$POSTRIDER_BIN-foundationdb"
        POSTRIDER_BIN+=-foundationdb
    fi
    export POSTRIDER_BIN
}
