#!/bin/bash
# lvm_guest.sh COMMAND…: runs it as root in a virtual machine, with this machine's own file system under it (read-only; what is
# written is gone afterwards, and /tmp is empty), and ends with its exit status. For what needs a kernel with device-mapper's thin pools, which that
# of a machine for tests often lacks: the same binaries run there, with nothing built for it. The machine has empty disks,
# /dev/vda and /dev/vdb of 16 GiB and /dev/vdc of 128 MiB, Debian's kernel, LVM without udev, and no network but its own lo.
#
# The kernel is downloaded with apt-get and kept, with an initrd, in ${IMAGECACHE_GUEST_DIR:-${XDG_CACHE_HOME:-~/.cache}/
# cinder-image-cache/guest}. KVM is used where a guest boots with it, else qemu's own emulation, which is some 40 times slower;
# LVM_GUEST_ACCEL=kvm or tcg says which. LVM_GUEST_TIMEOUT (600) is in seconds. The working directory, and variables named
# IMAGECACHE_…, ASAN_…, UBSAN_… and DAEMON, are those of the caller.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
kept=${IMAGECACHE_GUEST_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cinder-image-cache/guest}
timeout=${LVM_GUEST_TIMEOUT:-600}
die() { echo "lvm_guest.sh: $*" >&2; exit 1; }
for program in qemu-system-x86_64 busybox cpio depmod lvm thin_check; do
  command -v $program >/dev/null || die "no $program; run scripts/install-deps.sh test"
done
mkdir -p "$kept"

# What is loaded in the guest before anything runs there; modprobe adds what these need.
modules="virtio_pci virtio_blk 9pnet_virtio 9p overlay dm_mod dm_thin_pool dm_snapshot"

fetch_kernel() {
  local package deb unpacked=$kept/unpacked
  package=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
  [ -n "$package" ] || die "apt knows no linux-image-amd64"
  rm -rf "$unpacked"
  mkdir "$unpacked"
  (cd "$unpacked" && apt-get -o APT::Sandbox::User=root download "$package" >download.log 2>&1) || { cat "$unpacked/download.log" >&2; die "no $package"; }
  deb=$(ls "$unpacked"/*.deb)
  dpkg-deb -x "$deb" "$unpacked"
  rm "$deb"
}

make_initrd() {
  local unpacked=$kept/unpacked tree=$kept/initrd.tree version module file
  version=$(ls "$unpacked/lib/modules")
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,proc,sys,dev,modules,host,scratch,root}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  depmod -b "$unpacked" "$version"
  for module in $modules; do
    modprobe -d "$unpacked" -S "$version" --show-depends $module | awk '$1 == "insmod" { print $2 }'
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$tree/modules/"
    basename "$file"
  done >"$tree/modules/order"
  cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod /modules/$module; done </modules/order
share="-t 9p -o trans=virtio,version=9p2000.L,msize=512000"
mount $share,cache=loose,ro host /host
mount -t tmpfs scratch /scratch
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work overlay /root
for part in proc sys dev; do mount -o move /$part /root/$part; done
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts pts /root/dev/pts
for part in dev/shm run tmp; do mount -t tmpfs tmpfs /root/$part; done
mkdir -p /root/run/lock /root/run/job /root/etc/lvm
mount $share job /root/run/job
ip link set lo up
# Nobody answers LVM for udev here, so it makes its device nodes itself and looks for disks itself.
cat >/root/etc/lvm/lvm.conf <<'CONF'
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
devices { obtain_device_list_from_udev = 0 global_filter = [ "a|^/dev/vd|", "r|.*|" ] }
backup { backup = 0 archive = 0 }
CONF
exec switch_root /root /bin/bash /run/job/start
INIT
  chmod +x "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$kept/initrd.new"
  cp "$unpacked"/boot/vmlinuz-* "$kept/vmlinuz"
  mv "$kept/initrd.new" "$kept/initrd"
  rm -rf "$tree" "$unpacked"
}

(
  flock 9
  # Made anew when this script has changed.
  made_by=$(sha256sum <"$0")
  if [ "$(cat "$kept/made-by" 2>/dev/null)" != "$made_by" ]; then
    rm -f "$kept"/{initrd,vmlinuz,no-kvm}
    fetch_kernel
    make_initrd
    echo "$made_by" >"$kept/made-by"
  fi
) 9>"$kept/lock"

job=$(mktemp -d "${TMPDIR:-/tmp}/lvm-guest.XXXXXX")
qemu=
clean_up() {
  [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || true
  rm -rf "$job"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
{
  echo 'export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount -o remount,exec /tmp 2>/dev/null'
  export -p | grep -E '^declare -x (IMAGECACHE_|ASAN_|UBSAN_|DAEMON=)' || true
  echo 'touch /run/job/booted'
  printf '(cd %q &&' "$PWD"
  printf ' %q' "$@"
  printf ') >/run/job/output 2>&1 </dev/null\n'
  echo 'echo $? >/run/job/status; sync; echo o >/proc/sysrq-trigger; sleep 60'
} >"$job/start"

# Without address space randomisation the emulation keeps what it has translated of a program for the next run of it: LVM's
# commands take half the time.
boot() { # ACCEL CPU
  local disk disks=()
  rm -f "$job"/vd?
  truncate -s 16G "$job/vda" "$job/vdb"
  truncate -s 128M "$job/vdc"
  for disk in vda vdb vdc; do
    disks+=(-drive "file=$job/$disk,if=virtio,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap")
  done
  qemu-system-x86_64 -accel "$1" -cpu "$2" -machine q35 -smp 2 -m 2048 -nodefaults -no-reboot -display none \
    -kernel "$kept/vmlinuz" -initrd "$kept/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off norandmaps" -serial "file:$job/console" \
    "${disks[@]}" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -virtfs "local,path=$job,mount_tag=job,security_model=none" </dev/null >"$job/qemu" 2>&1 &
  qemu=$!
  disown "$qemu"  # or bash tells of one that has crashed
}
wait_for() { # FILE SECONDS: until it is there, the guest has ended, or time is up
  local until=$((SECONDS + $2))
  while [ ! -e "$1" ] && kill -0 "$qemu" 2>/dev/null && [ $SECONDS -lt $until ]; do sleep 0.2; done
  [ -e "$1" ]
}
give_up_guest() {
  kill -KILL "$qemu" 2>/dev/null || true
  while kill -0 "$qemu" 2>/dev/null; do sleep 0.1; done
  qemu=
}

accel=${LVM_GUEST_ACCEL:-}
if [ -z "$accel" ]; then
  accel=tcg
  # That /dev/kvm is there does not mean that a guest boots with it (nested virtualisation): it is tried, once.
  if [ -w /dev/kvm ] && [ ! -e "$kept/no-kvm" ]; then
    boot kvm host
    if wait_for "$job/booted" 20; then
      accel=kvm
    else
      give_up_guest
      touch "$kept/no-kvm"
      rm -f "$job/console"
    fi
  fi
fi
if [ -z "$qemu" ]; then
  case $accel in
    kvm) boot kvm host ;;
    *) boot tcg,thread=multi,tb-size=512 max ;;
  esac
fi
wait_for "$job/status" "$timeout" || true
[ ! -e "$job/output" ] || cat "$job/output"
if [ ! -s "$job/status" ]; then
  echo "lvm_guest.sh: no end after $SECONDS s ($accel); qemu and the guest's console say:" >&2
  tail -n 40 "$job/qemu" "$job/console" >&2 || true
  exit 125
fi
echo "[lvm_guest.sh: $accel, $SECONDS s]" >&2
exit "$(cat "$job/status")"
