#!/bin/bash
# ceph.sh start|stop DIR: a Ceph cluster for tests: one mon, one mgr, one osd on a file in DIR, on free ports of 127.0.0.1,
# without systemd; a pool "volumes" of one copy. Prints the path of its ceph.conf, which is what IMAGECACHE_TEST_CEPH wants.
# start takes some 10 s and is idempotent. stop ends what the pid files name and removes DIR.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

verb=${1:-} dir=${2:-}
[ -n "$dir" ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
conf=$dir/ceph.conf
export CEPH_CONF=$conf

running() { [ -s "$dir/$1.pid" ] && grep -qs "^ceph-$1" "/proc/$(cat "$dir/$1.pid")/comm"; }

stop() {
  local daemon i
  for daemon in osd mgr mon; do
    running $daemon || continue
    kill "$(cat "$dir/$daemon.pid")" 2>/dev/null || true
    for i in $(seq 100); do running $daemon || break; sleep 0.1; done
    ! running $daemon || kill -KILL "$(cat "$dir/$daemon.pid")" 2>/dev/null || true
  done
  rm -rf "$dir"
}

configure() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir -p "$dir"/{mon,mgr,osd,run,log}
  # Snapshots wait for the mon's proposals: the interval is Ceph's own default divided by ten, so that tests are quick.
  cat >"$conf" <<END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon initial members = a
mon host = [v2:127.0.0.1:$port/0]
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $dir/keyring
mon data = $dir/mon
mgr data = $dir/mgr
osd data = $dir/osd
run dir = $dir/run
admin socket = $dir/run/\$name.asok
log file = $dir/log/\$name.log
pid file = $dir/\$type.pid
osd objectstore = bluestore
bluestore block size = 12884901888
osd memory target = 939524096
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon warn on insecure global id reclaim = false
mon warn on insecure global id reclaim allowed = false
auth allow insecure global id reclaim = false
mon data avail warn = 1
mon data avail crit = 1
mgr initial modules =
mgr tick period = 1
mgr stats period = 1
paxos propose interval = 0.1
paxos min wait = 0.01
END
  ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
  ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
  ceph-authtool "$dir/keyring" --gen-key -n mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *' >/dev/null
  ceph-authtool "$dir/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *' >/dev/null
  monmaptool --create --clobber --fsid "$(sed -n 's/^fsid = //p' "$conf")" --addv a "[v2:127.0.0.1:$port]" "$dir/monmap" >/dev/null
  ceph-mon --mkfs -i a --monmap "$dir/monmap" --keyring "$dir/keyring" >/dev/null
}

start() {
  local i health=""
  command -v ceph-mon >/dev/null || { echo "ceph.sh: no ceph-mon; run scripts/install-deps.sh test" >&2; return 1; }
  [ -s "$conf" ] || configure >"$dir/configure.log" 2>&1 || { cat "$dir/configure.log" >&2; return 1; }
  running mon || ceph-mon -i a
  running mgr || ceph-mgr -i x
  if [ ! -s "$dir/osd/whoami" ]; then
    local id
    id=$(cat /proc/sys/kernel/random/uuid)
    ceph osd new "$id" 0 >/dev/null
    ceph-osd -i 0 --mkfs --osd-uuid "$id" >/dev/null 2>"$dir/log/mkfs.log" || { cat "$dir/log/mkfs.log" >&2; return 1; }
  fi
  running osd || ceph-osd -i 0 >/dev/null 2>>"$dir/log/osd.start"
  for i in $(seq 300); do
    ceph osd stat 2>/dev/null | grep -q '1 up' && break
    sleep 0.1
  done
  if ! ceph osd pool ls | grep -qx volumes; then
    ceph osd pool create volumes 16 16 >/dev/null 2>&1
    rbd pool init volumes
  fi
  for i in $(seq 600); do
    health=$(ceph health 2>/dev/null || true)
    [ "$health" = HEALTH_OK ] && { echo "$conf"; return 0; }
    sleep 0.1
  done
  echo "ceph.sh: the cluster is not well after a minute: $health (logs are in $dir/log)" >&2
  return 1
}

case $verb in
  start) start ;;
  stop) stop ;;
  *) echo "ceph.sh: '$verb' is not start or stop" >&2; exit 2 ;;
esac
