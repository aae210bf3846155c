# Sourced by the other scripts: what they need beyond git and the Rust toolchain.
# shellcheck shell=bash

# Says what comes next.
step() {
    printf '\n=== %s\n' "$*"
}

# Installs Debian packages, as root or through sudo.
install() {
    local apt=(apt-get)
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "Please install: $* (this is not root, and there is no sudo)" >&2
            exit 1
        }
        apt=(sudo apt-get)
    fi
    "${apt[@]}" update -qq
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y -qq --no-install-recommends "$@"
}

# LMDB and the cryptography are C, and Rust itself links through the C compiler.
need_c_compiler() {
    if ! command -v cc >/dev/null || ! echo 'int main(void){return 0;}' | cc -xc -o /dev/null - 2>/dev/null; then
        step "Installing a C compiler"
        install gcc libc6-dev
    fi
}

# Where Cargo builds.
target_dir() {
    echo "${CARGO_TARGET_DIR:-target}"
}
