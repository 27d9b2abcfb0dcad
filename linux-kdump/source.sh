# shellcheck shell=bash disable=SC2153,SC2154
# Unpacking a kernel's source and running its make, for both PKGBUILDs; what is to be built stands in `settings`.

case $CARCH in
    aarch64) export ARCH=arm64 _image=Image ;;
    *) export ARCH=x86_64 _image=bzImage ;;
esac

_linux() {
    printf '%s\n' "${_tree:-$srcdir/linux}"
}

# A source that is the same isn't unpacked again, so that make finds what it has made of it current.
_unpack() {
    local patch mark
    [[ -z $_tree ]] || return 0
    mark=$(sha256sum "$_archive" "${_patches[@]}")
    [[ ! -e linux/.unpacked || "$(<linux/.unpacked)" != "$mark" ]] || return 0
    rm -rf linux build
    mkdir linux
    bsdtar -xf "$_archive" -C linux --strip-components 1
    [[ -r linux/Makefile ]] || { echo "$_archive: no source of a kernel" >&2; return 1; }
    touch -r linux/Makefile linux/.dated
    for patch in "${_patches[@]}"; do
        echo "Applying $patch"
        case $patch in
            *.zst) zstd -dcq "$patch" ;;
            *) cat "$patch" ;;
        esac | patch -d linux -Np1
    done
    printf '%s\n' "$mark" >linux/.unpacked
}

# make, in a directory of its own beside the source; whoever builds it at whatever time gets the same bytes.
_make() {
    local linux dated compiler=gcc
    linux=$(_linux) dated=$linux/.dated
    [[ -e $dated ]] || dated=$linux/Makefile
    ! command -v ccache >/dev/null || compiler='ccache gcc'
    make -C "$linux" O="$srcdir/build" CC="$compiler" LOCALVERSION= KBUILD_BUILD_USER="$pkgname" \
        KBUILD_BUILD_HOST=archlinux KBUILD_BUILD_VERSION=1 \
        KBUILD_BUILD_TIMESTAMP="$(date -Rud "@$(stat -c %Y "$dated")")" "$@"
}

pkgver() {
    make -s -C "$(_linux)" kernelversion | tr - _
}
