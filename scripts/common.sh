# Sourced by the other scripts: what they need beyond git and the Rust toolchain.
# shellcheck shell=bash

# Says what comes next.
step() {
    printf '\n=== %s\n' "$*"
}

# `--install` among the arguments of a script allows it, and the scripts that it calls, to install what
# is missing. In CI (CI=true) they are allowed to.
export POSTRIDER_MAY_INSTALL="${POSTRIDER_MAY_INSTALL:-${CI:-false}}"
arguments=()
for argument in "$@"; do
    if [ "$argument" = --install ]; then
        POSTRIDER_MAY_INSTALL=true
    else
        arguments+=("$argument")
    fi
done
# A sourced file shares its caller's arguments.
set -- "${arguments[@]}"

# Installs Debian packages if that is allowed, as root or through sudo; otherwise it says what is missing,
# and the command that installs it.
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

# LMDB and the cryptography are C, and Rust itself links through the C compiler.
need_c_compiler() {
    if ! command -v cc >/dev/null || ! echo 'int main(void){return 0;}' | cc -xc -o /dev/null - 2>/dev/null; then
        install gcc libc6-dev || exit 1
    fi
}

# Whether the tests in a browser can run: a browser, its driver, and axe-core. If not, it says in one
# line why they are left out.
need_browser() {
    local missing=() reason
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    command -v npm >/dev/null || missing+=(npm)
    if [ ${#missing[@]} -gt 0 ] && ! reason="$(install "${missing[@]}" 2>&1)"; then
        echo "left out: the browser tests: ${reason##*$'\n'}"
        return 1
    fi
    if ! reason="$(npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error 2>&1)"; then
        echo "left out: the browser tests, since axe-core could not be had: ${reason%%$'\n'*}"
        return 1
    fi
}

# Where Cargo builds.
target_dir() {
    echo "${CARGO_TARGET_DIR:-target}"
}

# bindgen reads FoundationDB's C header through it, at build time.
need_libclang() {
    local place name
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        return
    fi
    for place in "$(llvm-config --libdir 2>/dev/null)" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu \
        /usr/lib /usr/lib64 /usr/local/lib; do
        # Beside it there may be libclang-cpp, which is something else.
        for name in 'libclang.so*' 'libclang-[0-9]*.so*'; do
            if compgen -G "$place/$name" >/dev/null; then
                return
            fi
        done
    done
    install libclang-dev || exit 1
}

# Whether the nodes of the tests keep their records in FoundationDB.
over_foundationdb() {
    [ "${POSTRIDER_TEST_STORE:-embedded}" = foundationdb ]
}

# Begins a script anew with a FoundationDB of its own, if it needs one and was given none:
# need_foundationdb SCRIPT [ARGUMENT...]
need_foundationdb() {
    if over_foundationdb && [ -z "${FDB_CLUSTER_FILE:-}" ]; then
        exec scripts/foundationdb run -- "$@"
    fi
}

# For test programs that run over FoundationDB: what is about the embedded store alone.
# shellcheck disable=SC2034
over_foundationdb_skip=(--skip embedded::)

# Builds the node for the tests, in the profile `debug` or `release`, with FoundationDB if they run over
# it, and lets them know where it is.
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
        # Whoever looks for the usual one does not find this one in its place.
        # (Both may be links to one file, which mv would leave as they are.)
        rm -f "$POSTRIDER_BIN-foundationdb"
        mv "$POSTRIDER_BIN" "$POSTRIDER_BIN-foundationdb"
        POSTRIDER_BIN+=-foundationdb
    fi
    export POSTRIDER_BIN
}
