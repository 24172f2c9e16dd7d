#!/bin/bash
# make-image.sh [DIR]: a real, bootable Debian image made from Debian's packages, as a cloud would register it:
#
#   DIR/debian.raw     1 GiB disk: MBR, GRUB, one ext4 partition with kernel, initrd and systemd; console on ttyS0
#   DIR/debian.qcow2   the same disk, compressed
#
# DIR is kept between runs: what is there is not made again. Default: $IMAGECACHE_IMAGE_DIR, or else
# ${XDG_CACHE_HOME:-~/.cache}/cinder-image-cache/images. The packages come from this machine's own Debian mirror (or from
# $IMAGECACHE_MIRROR). `make-image.sh --boot [DIR]` starts the raw image in qemu, if that is installed, and waits for its
# login prompt.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
size_mib=1024 first_sector=2048

boot=0
case ${1:-} in
  --boot) boot=1; shift ;;
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
dir=${1:-${IMAGECACHE_IMAGE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cinder-image-cache/images}}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

say() { printf 'make-image: %3ds  %s\n' $SECONDS "$*"; }
die() { echo "make-image: $*" >&2; exit 1; }

# The mirror of this machine's own release, asked of apt itself, so that both kinds of source files count.
mirror() {
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --format '$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Identifier: Packages' 2>/dev/null |
    awk -F'|' -v codename="$codename" '
      $3 != "main" || ($2 != codename && $2 != "stable") || $4 !~ /^https?:/ { next }
      $1 == "Debian" { print $4; found = 1; exit }
      !other { other = $4 }       # no Release file yet: the name of the suite must do
      END { if (!found && other) print other }'
}

# Everything that one run makes stands in one folder beside the result, so that a rename publishes it and a failure leaves
# nothing. It is not in /tmp: that may be mounted nodev, and a root file system has device nodes.
make_raw() {
  local work from codename as_root=""
  [ "$(dpkg --print-architecture)" = amd64 ] || die "the image boots through GRUB for PC BIOS and needs an amd64 machine"
  [ "$(id -u)" = 0 ] || as_root=sudo       # a root file system holds files of many owners
  from=${IMAGECACHE_MIRROR:-$(mirror)}
  [ -n "$from" ] || die "apt knows no Debian mirror of this release: run 'apt-get update', or set IMAGECACHE_MIRROR=URL"
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  work=$(mktemp -d "$dir/.tmp.XXXXXX")
  trap "$as_root rm -rf '$work'" EXIT

  say "fetching and unpacking Debian $codename (kernel, systemd) from $from"
  # Made to be quick: an initrd compressed with lz4, no fsync per package, no manuals.
  $as_root mmdebstrap --quiet --mode=root --variant=minbase --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,iproute2 \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
    --aptopt='Acquire::Languages "none"' \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"; echo COMPRESS=lz4 >"$1/etc/initramfs-tools/conf.d/fast"' \
    --customize-hook='rm -f "$1/etc/initramfs-tools/conf.d/fast"' \
    "$codename" "$work/root" "$from" >"$work/log" 2>&1 ||
    { tail -20 "$work/log" >&2; die "mmdebstrap failed; its last words stand above"; }

  local uuid kernel initrd
  uuid=$(cat /proc/sys/kernel/random/uuid)
  kernel=$(cd "$work/root/boot" && ls vmlinuz-* | tail -1)
  initrd=initrd.img-${kernel#vmlinuz-}
  [ -s "$work/root/boot/$initrd" ] || die "the kernel package made no initrd: $(tail -3 "$work/log")"
  $as_root tee "$work/root/etc/fstab" >/dev/null <<<"UUID=$uuid / ext4 defaults 0 1"
  $as_root tee "$work/root/etc/hostname" >/dev/null <<<debian
  $as_root truncate -s 0 "$work/root/etc/machine-id"    # each machine makes its own at first boot
  $as_root mkdir -p "$work/root/boot/grub"
  $as_root tee "$work/root/boot/grub/grub.cfg" >/dev/null <<END
serial --unit=0
terminal_output serial console
linux /boot/$kernel root=UUID=$uuid ro console=tty0 console=ttyS0,115200
initrd /boot/$initrd
boot
END

  say "writing the disk: partition, ext4, GRUB"
  truncate -s ${size_mib}M "$work/debian.raw"
  echo "start=$first_sector, type=83, bootable" | sfdisk -q "$work/debian.raw"
  # The orphan file is newer than what GRUB and an old rescue system read.
  $as_root mkfs.ext4 -q -F -U "$uuid" -L debian -O ^metadata_csum_seed,^orphan_file \
    -E offset=$((first_sector * 512)),nodiscard -d "$work/root" "$work/debian.raw" $((size_mib * 1024 - first_sector / 2))k
  # GRUB without a mount: its first sector goes into the boot code of the MBR (the partition table begins at byte 440 and
  # stays), its core right behind it, which is where an untouched boot.img looks.
  local pc=/usr/lib/grub/i386-pc
  grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core.img" biosdisk part_msdos ext2 normal linux serial terminal configfile
  [ "$(stat -c %s "$work/core.img")" -le $(((first_sector - 1) * 512)) ] || die "GRUB's core does not fit before the partition"
  dd if=$pc/boot.img of="$work/debian.raw" bs=440 count=1 conv=notrunc status=none
  dd if="$work/core.img" of="$work/debian.raw" bs=512 seek=1 conv=notrunc status=none

  mv "$work/debian.raw" "$dir/debian.raw"
  $as_root rm -rf "$work"
  trap - EXIT
}

make_qcow2() {
  say "compressing it to qcow2"
  qemu-img convert -f raw -O qcow2 -c -m 4 -W "$dir/debian.raw" "$dir/.debian.qcow2.tmp"
  mv "$dir/.debian.qcow2.tmp" "$dir/debian.qcow2"
}

boots() {
  command -v qemu-system-x86_64 >/dev/null || die "--boot needs qemu-system-x86"
  say "booting $dir/debian.raw (changes are thrown away)"
  local log pid
  log=$(mktemp)
  # Emulated, not KVM: slower, but it also works inside a guest whose nested KVM does not.
  qemu-system-x86_64 -machine accel="${IMAGECACHE_QEMU_ACCEL:-tcg}" -m 512 -nographic -net none -snapshot -drive "file=$dir/debian.raw,format=raw,if=virtio" \
    </dev/null >"$log" 2>&1 &
  pid=$!
  trap "kill $pid 2>/dev/null || true; rm -f '$log'" EXIT
  until grep -aq 'login:' "$log"; do
    [ $SECONDS -lt 300 ] && kill -0 $pid 2>/dev/null || { tail -15 "$log" >&2; die "no login prompt; the console stands above"; }
    sleep 1
  done
  say "it boots: $(grep -a 'login:' "$log" | tr -d '\r' | tail -1)"
}

# Two at once (quickstart.sh and test.sh, say) would do the work twice: the second waits and finds it done.
exec 9>"$dir/.lock"
flock 9
[ -s "$dir/debian.raw" ] || make_raw
[ -s "$dir/debian.qcow2" ] && [ ! "$dir/debian.raw" -nt "$dir/debian.qcow2" ] || make_qcow2
say "$(cd "$dir" && du -h --apparent-size debian.raw | cut -f1) raw with $(cd "$dir" && du -h debian.raw | cut -f1) of data, $(du -h "$dir/debian.qcow2" | cut -f1) as qcow2, in $dir"
[ $boot = 0 ] || boots
