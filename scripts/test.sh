#!/bin/bash
# test.sh: all set-up and all tests, on a Debian 12 machine with a checkout and nothing else.
#
#   packages · a bootable image (kept between runs) · small loop-mounted file systems · a Ceph cluster · build with ASan and
#   UBSan · clang-format · ctest (unit, contract, service, crash) · end to end with a real glance-api, keystone and Cinder
#   · OpenStack's own API tests · clang-tidy, beside all of these
#
# Goes on after a failure, so that one run shows everything. The last line is "N passed, M failed": ctest's tests, the end-to-end
# cases, OpenStack's tests and the two source checks; a test that was skipped or not run counts as failed. Exit status 1 if anything failed.
# Mounting needs root (or sudo). SKIP_TIDY=1 leaves clang-tidy out; the rest always runs.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$(readlink -f "$0")")/.."
jobs=$(nproc)
passed=0 failed=0
as_root=""
[ "$(id -u)" = 0 ] || as_root=sudo

step() { printf '\n=== %s  (after %d min %02d s)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }
give_up() {
  echo "test.sh: $*" >&2
  echo "$passed passed, $((failed + 1)) failed"
  exit 1
}
check() { # NAME COMMAND…: one check that counts as one test
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}

work=$(mktemp -d "${TMPDIR:-/tmp}/image-cache-test.XXXXXX")
mounts=()
clean_up() {
  local mount
  [ -z "${tidy:-}" ] || kill "$tidy" 2>/dev/null
  [ ! -e "$work/ceph" ] || tests/support/ceph.sh stop "$work/ceph"
  for mount in "${mounts[@]}"; do $as_root umount "$mount" || $as_root umount -l "$mount"; done
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step "packages"
scripts/install-deps.sh test || give_up "packages are missing"

step "a bootable image"
scripts/make-image.sh || give_up "no image"

step "file systems: XFS with reflink, ext4 without, a small one that gets full"
mount_loop() { # NAME SIZE MKFS…
  local name=$1 size=$2
  shift 2
  truncate -s "$size" "$work/$name.img" && mkdir "$work/$name" && "$@" "$work/$name.img" >/dev/null &&
    $as_root mount -o loop "$work/$name.img" "$work/$name" || give_up "cannot mount a $name loop file system; this needs root and loop devices"
  mounts+=("$work/$name")
  $as_root chown "$(id -u):$(id -g)" "$work/$name"
}
mount_loop xfs 20G mkfs.xfs -q -m reflink=1
mount_loop ext4 8G mkfs.ext4 -q -F
mount_loop tiny 64M mkfs.ext4 -q -F -m 0
export IMAGECACHE_TEST_XFS=$work/xfs IMAGECACHE_TEST_EXT4=$work/ext4 IMAGECACHE_TEST_TINY=$work/tiny

step "a Ceph cluster"
IMAGECACHE_TEST_CEPH=$(tests/support/ceph.sh start "$work/ceph") || give_up "the Ceph cluster did not start"
export IMAGECACHE_TEST_CEPH

step "build (debug, ASan, UBSan)"
cmake --preset asan >"$work/cmake.log" || { cat "$work/cmake.log"; give_up "cmake failed"; }
NINJA_STATUS='[%f/%t %es] ' cmake --build build/asan -j "$jobs" || give_up "the build failed"

step "format"
git ls-files -z 'src/*.[ch]pp' 'include/*.hpp' 'backends/*.[ch]pp' 'tests/*.[ch]pp' 'bench/*.[ch]pp' >"$work/sources"
check clang-format xargs -0 clang-format-19 --dry-run -Werror <"$work/sources"

# It takes what the tests leave of the processors: they wait more than they compute.
if [ "${SKIP_TIDY:-0}" != 1 ]; then
  nice -n 19 scripts/clang-tidy.py build/asan >"$work/tidy.log" 2>&1 &
  tidy=$!
fi

step "unit, contract, service and crash tests"
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
export ASAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer-19
ctest --test-dir build/asan -j "$jobs" --output-on-failure --no-tests=error --output-junit "$work/ctest.xml" | tee "$work/ctest.log"
# What did not run has proved nothing: only a test with the status "run" has passed.
read -r ran not_ran < <(python3 - "$work/ctest.xml" <<'END'
import sys, xml.etree.ElementTree
try:
    cases = xml.etree.ElementTree.parse(sys.argv[1]).getroot().findall("testcase")
    good = sum(case.get("status") == "run" for case in cases)
    print(good, len(cases) - good if cases else 1)
except (OSError, xml.etree.ElementTree.ParseError):
    print(0, 1)
END
)
passed=$((passed + ran)) failed=$((failed + not_ran))

step "end to end, with a real glance-api, keystone, Cinder and clients"
DAEMON=$PWD/build/asan/cinder-image-cache tests/e2e/run | tee "$work/e2e.log"
if read -r ok bad < <(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/e2e.log"); then
  passed=$((passed + ok)) failed=$((failed + bad))
else
  failed=$((failed + 1))
  echo "FAILED: tests/e2e/run ended without a count"
fi

step "OpenStack's own API tests, with a real keystone and glance"
DAEMON=$PWD/build/asan/cinder-image-cache tests/tempest/run | tee "$work/tempest.log"
if read -r ok bad < <(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/tempest.log"); then
  passed=$((passed + ok)) failed=$((failed + bad))
else
  failed=$((failed + 1))
  echo "FAILED: tests/tempest/run ended without a count"
fi

if [ "${SKIP_TIDY:-0}" != 1 ]; then
  step "clang-tidy, which began with the tests"
  check clang-tidy wait "$tidy"
  tidy=
  cat "$work/tidy.log"
fi

step "the end"
sed -n '/tests passed/,$p' "$work/ctest.log"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
