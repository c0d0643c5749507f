#!/bin/sh
# Install the system tools that the tests need and that are missing, if the package manager may be used.
# Exits 0 either way: a test that needs a missing tool is skipped, or fails with TORCHLINK_TEST_REQUIRE=1.
set -u

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }

if command -v apt-get >/dev/null 2>&1; then
    need c++ g++
    need clang++ clang
    # Some tests need the system's CMake 3; the one in the environment, first on PATH, is newer.
    [ -x /usr/bin/cmake ] || missing="$missing cmake"
    need ninja ninja-build
    need make make
    need nim nim
    need curl curl
    # For the kinds of `torchlink new` in other languages.
    need node "nodejs libnode-dev"
    need Rscript r-base-core
    need ghc ghc
    need cabal cabal-install
    need pkg-config pkg-config
    need ld.gold binutils
    need ld.lld lld
    need mold mold
    need ccache ccache
    need redis-server redis-server
    need faketime faketime
    need musl-gcc musl-tools
    need lddtree pax-utils
    # The languages of `torchlink new`; zig comes from PyPI.
    need cargo cargo
    need go golang-go
    need ldc2 ldc
    need dub dub
    need gfortran gfortran
    need javac default-jdk-headless
    need mcs mono-mcs
    need mono mono-runtime
    [ -n "$(find /usr/lib/mono -name System.Core.dll 2>/dev/null)" ] || missing="$missing libmono-system-core4.0-cil"
    need ruby ruby
    need luajit luajit
    need ocamlopt ocaml-nox
    need dune ocaml-dune
    need ocamlfind ocaml-findlib
    need crystal crystal
    need gprbuild gprbuild
    need gnatmake gnat
    echo 'int main(){}' | c++ -x c++ - -o /dev/null -lopenblas 2>/dev/null || missing="$missing libopenblas-dev"
    # For a libtorch of another architecture: its cross compiler, and QEMU to run the result.
    case $(uname -m) in
    x86_64) need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu; need qemu-aarch64-static qemu-user-static ;;
    aarch64) need x86_64-linux-gnu-g++ g++-x86-64-linux-gnu; need qemu-x86_64-static qemu-user-static ;;
    esac
    [ -f /usr/include/spdlog/spdlog.h ] || missing="$missing libspdlog-dev"
    # The server of `torchlink new server`, and the clients of its tests.
    [ -f /usr/include/boost/beast.hpp ] || missing="$missing libboost-dev"
    [ -f /usr/include/simdjson.h ] || missing="$missing libsimdjson-dev"
    [ -f /usr/include/png.h ] || missing="$missing libpng-dev"
    [ -f /usr/include/jpeglib.h ] || missing="$missing libjpeg-dev"
    [ -f /usr/include/zlib.h ] || missing="$missing zlib1g-dev"
    [ -f /usr/include/zip.h ] || missing="$missing libzip-dev"
    need curl curl
    need wrk wrk
    need strace strace
    # The tools for which `torchlink flags` has a syntax; nvcc is not in Debian, and its tests are left out without it.
    need cargo cargo
    need go golang-go
    need ldc2 ldc
    need gfortran gfortran
    need dune ocaml-dune
    need ocamlfind ocaml-findlib
    need ghc ghc
    need crystal crystal
    need gprbuild gprbuild
    need gnatmake gnat
    need R r-base-core
    need ruby "ruby ruby-dev"
    need node "nodejs node-gyp libnode-dev"
    need qmake qtbase5-dev
    need bazel bazel-bootstrap
    [ -d /usr/share/bazel/rules/java ] || missing="$missing bazel-rules-java"
    command -v google-chrome >/dev/null 2>&1 || need chromium chromium
    install="apt-get install -y -q --no-install-recommends"
    refresh="apt-get update -q"
elif command -v dnf >/dev/null 2>&1; then
    need c++ gcc-c++
    need clang++ clang
    need cmake cmake
    need ninja ninja-build
    need make make
    need nim nim
    need curl curl
    need pkg-config pkgconf-pkg-config
    need ld.lld lld
    need mold mold
    need ccache ccache
    need redis-server redis
    need faketime libfaketime
    echo 'int main(){}' | c++ -x c++ - -o /dev/null -lopenblas 2>/dev/null || missing="$missing openblas-devel"
    install="dnf install -y -q"
    refresh=true
elif command -v brew >/dev/null 2>&1; then
    need cmake cmake
    need ninja ninja
    need nim nim
    need curl curl
    need pkg-config pkg-config
    install="brew install"
    refresh=true
else
    echo "system-tools: no known package manager; tests that need a missing tool are skipped" >&2
    exit 0
fi

# Packages that compilers only recommend. Their names contain the version of the compiler, known once it is installed.
runtimes() {
    command -v apt-get >/dev/null 2>&1 || return 0
    # With the version of the compiler: plain g++-multilib conflicts with the cross compilers.
    if [ "$(uname -m)" = x86_64 ] && command -v c++ >/dev/null 2>&1; then
        links c++ -m32 || echo "g++-$(c++ -dumpversion | cut -d. -f1)-multilib"
    fi
    command -v clang++ >/dev/null 2>&1 || return 0
    version=$(clang++ -dumpversion | cut -d. -f1)
    links clang++ -fsanitize=address '#include <string>\n' || echo "libclang-rt-$version-dev"
    links clang++ -stdlib=libc++ '#include <string>\n' || echo "libc++-$version-dev libc++abi-$version-dev"
}
links() { printf "${3-}int main(){}\n" | "$1" "$2" -x c++ - -o /dev/null >/dev/null 2>&1; }

[ -n "$missing$(runtimes)" ] || exit 0
sudo=""
if [ "$(id -u)" != 0 ] && [ "${install#brew}" = "$install" ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        missing="$missing $(runtimes)"
        echo "system-tools: no permission to install$missing; run this yourself: sudo $install $missing" >&2
        exit 0
    fi
fi
add() {
    [ -n "$1" ] || return 0
    echo "system-tools: installing $1" >&2
    # shellcheck disable=SC2086 # word splitting is intended
    DEBIAN_FRONTEND=noninteractive $sudo $install $1 >/dev/null || echo "system-tools: could not install $1" >&2
}
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo $refresh >/dev/null 2>&1
add "$missing"
add "$(runtimes | tr '\n' ' ' | sed 's/ $//')"
exit 0
