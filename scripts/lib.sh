# Shared by the scripts: installing what is missing. Sourced, not run.

# packages_of SECTION...: the packages of these sections of scripts/packages.
packages_of() {
    local section
    for section in "$@"; do
        awk -v wanted="[$section]" '/^\[/ {inside = ($0 == wanted); next} /^#/ || !NF {next} inside' "$ROOT/scripts/packages"
    done
}

# ensure_packages SECTION...: installs what is missing, as root or through sudo; nothing is asked when nothing is missing.
ensure_packages() {
    local package missing=() as_root=()
    for package in $(packages_of "$@"); do
        # Node.js that is not Debian's brings its own npm, and Debian's npm cannot lie beside it.
        [ "$package" = npm ] && command -v npm >/dev/null && continue
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "These Debian packages are missing and only root can install them: ${missing[*]}" >&2
            echo "Run as root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" \
            >/dev/null 2>"$ROOT/build/apt.log" || {
        echo "apt-get could not install them:" >&2
        tail -n 5 "$ROOT/build/apt.log" >&2
        return 1
    }
}
