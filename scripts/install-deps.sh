#!/bin/bash
# install-deps.sh [build] [image] [test] [bench] [openstack]: the Debian packages that a part of the project needs. Default: build.
#
#   build  compile the daemon and its unit tests       image  make a bootable Debian image (scripts/make-image.sh)
#   test   build + image + what the test layers start  bench  build + image + the servers that bench/ runs beside us
#   openstack  a Ceph, a keystone, a glance-api, a Cinder and their clients; a part of test
#
# Asks dpkg first and leaves apt alone when nothing is missing, so it costs nothing to call it every time.
# Works as root or through sudo. IMAGECACHE_ALLOW_REMOVE=1 lets it remove packages that exclude ours (see below).
set -euo pipefail
# A python3 of the user's own (pyenv, conda) must not run Debian's maintainer scripts.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive

build="clang-19 lld-19 llvm-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev cmake ninja-build ccache pkg-config git
  libboost1.81-dev libcurl4-openssl-dev libsqlitecpp-dev libsqlite3-dev libspdlog-dev libfmt-dev libgtest-dev libgmock-dev
  nlohmann-json3-dev libcli11-dev libssl-dev prometheus-cpp-dev libsystemd-dev libbenchmark-dev libdeflate-dev libzstd-dev
  libyaml-cpp-dev zlib1g-dev qemu-utils librbd-dev librados-dev libradospp-dev
  librabbitmq-dev"
image="mmdebstrap debian-archive-keyring fdisk e2fsprogs grub-common grub-pc-bin qemu-utils xfsprogs mount curl jq python3"
openstack="ceph-mon ceph-mgr ceph-osd ceph-common keystone uwsgi-core uwsgi-plugin-python3 glance-api cinder-api cinder-scheduler
  cinder-volume mariadb-server rabbitmq-server python3-oslo.messaging nfs-common sudo python3-cinder python3-rados python3-rbd
  python3-openstackclient python3-cinderclient python3-glanceclient"
# What tests/support/lvm_guest.sh makes a machine of; it fetches a kernel besides.
guest="qemu-system-x86 lvm2 thin-provisioning-tools busybox-static kmod cpio"
test="$build $image $openstack $guest btrfs-progs sqlite3 openssl mypy tempest python3-tempest cinder-tempest-plugin
  python3-stestr python3-subunit python3-testtools python3-ddt"
bench="$build $image glance-api nginx varnish openssl python3-cinder"

wanted=""
for part in "${@:-build}"; do
  case $part in
    build | image | test | bench | openstack) wanted+=" ${!part}" ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "install-deps.sh: '$part' is not one of build, image, test, bench, openstack" >&2; exit 2 ;;
  esac
done

missing=$(comm -23 <(printf '%s\n' $wanted | sort -u) \
  <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^.i. //p' | sort -u))
[ -n "$missing" ] || { echo "install-deps: all packages for '${*:-build}' are there"; exit 0; }
missing=$(echo $missing)

as_root=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "install-deps: missing packages: $missing; run this as root, or install sudo" >&2; exit 1; }
  as_root="sudo --preserve-env=DEBIAN_FRONTEND"
fi
apt() { $as_root apt-get -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"; }

echo "install-deps: installing $(wc -w <<<"$missing") packages: $missing"
# One dead third-party source must not stop us: what we need comes from Debian, and the install below says what it lacks.
apt update -qq || echo "install-deps: apt-get update reported errors; going on with the lists that are there" >&2

# libboost1.81-dev excludes Debian's default libboost1.74-dev, and apt -y would silently take away everything that stands on
# the old one. Boost headers alone may go; anything else is the user's decision.
removed=$(apt install -s --no-install-recommends $missing | sed -n 's/^Remv \([^ ]*\).*/\1/p')
foreign=$(grep -vE '^libboost.*-dev$' <<<"$removed" || true)
if [ -n "$foreign" ] && [ "${IMAGECACHE_ALLOW_REMOVE:-0}" != 1 ]; then
  echo "install-deps: apt would remove packages that exclude ours:" $foreign >&2
  echo "install-deps: agree with IMAGECACHE_ALLOW_REMOVE=1 $0 $*, or use a container" >&2
  exit 1
fi
[ -z "$removed" ] || echo "install-deps: removing (they exclude libboost1.81-dev):" $removed

# The services among them (glance-api, nginx, varnish) are started by our tests on their own ports and must not also come up
# system-wide. policy-rc.d is Debian's switch for that; a file of the user's own is left as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap '$as_root rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
  $as_root chmod 755 $policy
fi
apt install -y -qq --no-install-recommends $missing
echo "install-deps: done"
