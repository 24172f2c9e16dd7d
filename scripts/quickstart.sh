#!/bin/bash
# quickstart.sh: the main job, from a Debian 12 machine with a checkout and nothing else to a table of times.
#
#   installs packages · builds a release while a bootable Debian image is made · starts the daemon with a directory as its
#   origin and a directory as its backend · creates a volume from the image: cold, 1 warm, 20 at once warm
#
# quickstart.sh         do all that; packages, image and build are kept, so another run takes seconds and starts cold again
# quickstart.sh stop    stop the daemon and unmount; everything in the work directory stays
#
# QUICKSTART_DIR     the work directory, default ./quickstart-data
# QUICKSTART_PORTS   image API, volume API, status; default "9393 8787 9394"
set -euo pipefail
caller_dir=$PWD
source_dir=$(dirname "$(dirname "$(readlink -f "$0")")")
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p "${QUICKSTART_DIR:-$caller_dir/quickstart-data}"
dir=$(cd "${QUICKSTART_DIR:-$caller_dir/quickstart-data}" && pwd)
read -r image_port volume_port status_port <<<"${QUICKSTART_PORTS:-9393 8787 9394}"
binary=$source_dir/build/release/cinder-image-cache

say() { printf '%s\n' "[$(printf '%3d' $SECONDS) s] $*"; }
die() { echo "quickstart: $*" >&2; exit 1; }
daemon_runs() { [ -s "$dir/daemon.pid" ] && kill -0 "$(cat "$dir/daemon.pid")" 2>/dev/null; }

stop_all() {
  local i
  if daemon_runs; then
    kill -TERM "$(cat "$dir/daemon.pid")"
    for i in $(seq 300); do daemon_runs || break; sleep 0.1; done
    ! daemon_runs || die "the daemon (pid $(cat "$dir/daemon.pid")) does not end; see $dir/daemon.log"
  fi
  rm -f "$dir/daemon.pid"
  ! mountpoint -q "$dir/volumes" || umount "$dir/volumes" || die "$dir/volumes is still in use"
}

case ${1:-} in
  stop) stop_all; say "stopped; remove $dir to remove everything"; exit 0 ;;
  "") ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] || [ "$1" = -h ]; exit ;;
esac

say "packages"
"$source_dir/scripts/install-deps.sh" build image

say "building a release, and making the image beside it"
images=${IMAGECACHE_IMAGE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cinder-image-cache/images}
("$source_dir/scripts/make-image.sh" "$images" 2>&1 | sed -u 's/^/        /') &
image_job=$!
build() {
  cd "$source_dir"
  cmake --preset release >"$dir/build.log"
  if [ -t 1 ]; then
    NINJA_STATUS='[%f/%t] ' cmake --build build/release
  else    # a log wants no line for each file
    NINJA_STATUS='[%f/%t] ' cmake --build build/release | awk '!/^\[/ || NR % 20 == 0 { print; fflush() }'
  fi
}
(build) || { kill "$image_job" 2>/dev/null || true; tail -20 "$dir/build.log" >&2; die "the build failed; see above"; }
wait "$image_job" || die "the image could not be made; see above"

say "starting cold: the caches and volumes of an earlier run are removed"
stop_all
rm -rf "$dir/state" "$dir/image-cache" "$dir/conversion" "$dir/volumes" "$dir/volumes.xfs" "$dir/origin"
mkdir -p "$dir/state" "$dir/image-cache" "$dir/conversion" "$dir/volumes" "$dir/origin"
# The backend wants a file system that clones files. Where the work directory is on none, a sparse file holds one.
shares_blocks() { head -c 65536 /dev/zero >"$1/.probe" && cp --reflink=always "$1/.probe" "$1/.probe2" 2>/dev/null; local rc=$?; rm -f "$1"/.probe*; return $rc; }
if shares_blocks "$dir/volumes"; then
  backend="a directory that clones files"
elif [ "$(id -u)" = 0 ] && truncate -s 64G "$dir/volumes.xfs" && mkfs.xfs -q -m reflink=1 "$dir/volumes.xfs" &&
  mount -o loop "$dir/volumes.xfs" "$dir/volumes" 2>"$dir/mount.log"; then
  backend="XFS with reflink, loop-mounted"
else
  rm -f "$dir/volumes.xfs"
  backend="a directory without reflink: each volume is a FULL COPY, and the warm times show it (run as root for XFS)"
fi
say "backend: $backend"

# The directory origin takes a file named by a UUID as the image of that id. A hard link or a copy, not a symbolic link.
# The same image keeps its id.
image_id=$(stat -c '%s %Y' "$images/debian.qcow2" | md5sum | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-a\4-\5/')
ln "$images/debian.qcow2" "$dir/origin/$image_id.qcow2" 2>/dev/null || cp "$images/debian.qcow2" "$dir/origin/$image_id.qcow2"
internal_project=$(cat /proc/sys/kernel/random/uuid)
cat >"$dir/cinder.conf" <<END
[DEFAULT]
auth_strategy = noauth
enabled_backends = files
image_cache_dir = $dir/image-cache
image_conversion_dir = $dir/conversion
cinder_internal_tenant_project_id = $internal_project
cinder_internal_tenant_user_id = $internal_project
quota_volumes = 100
log_file = $dir/daemon.log

[files]
volume_driver = file
volume_backend_name = files
file_volume_dir = $dir/volumes
image_volume_cache_enabled = true

[image_cache_service]
image_api_bind = 127.0.0.1:$image_port
volume_api_bind = 127.0.0.1:$volume_port
status_bind = 127.0.0.1:$status_port
origin = file://$dir/origin
state_path = $dir/state
END

say "starting the daemon"
for port in "$image_port" "$volume_port" "$status_port"; do
  ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || die "port $port is taken; choose others: QUICKSTART_PORTS='19393 18787 19394' $0"
done
setsid "$binary" serve --config-file "$dir/cinder.conf" </dev/null >"$dir/daemon.out" 2>&1 &
echo $! >"$dir/daemon.pid"
for i in $(seq 300); do
  ! curl -fs -o /dev/null "http://127.0.0.1:$status_port/healthcheck" || break
  daemon_runs || { tail -5 "$dir/daemon.out" "$dir/daemon.log" >&2 || true; die "the daemon ended at start; its last words stand above"; }
  [ "$i" != 300 ] || die "the daemon is not healthy after 30 s; see $dir/daemon.log"
  sleep 0.1
done

say "creating volumes from image $image_id"
python3 - "$image_id" "http://127.0.0.1:$volume_port/v3/admin" "http://127.0.0.1:$status_port/metrics" "$internal_project" <<'END'
import http.client, json, re, sys, threading, time, urllib.parse
image_id, api, metrics, internal = sys.argv[1:]

def connect(url):
    return http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=300)

def ask(url, body=None, connection=None):
    at = urllib.parse.urlsplit(url)
    connection = connection or connect(url)
    connection.request("POST" if body else "GET", at.path + ("?" + at.query if at.query else ""),
                       json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status >= 300:
        sys.exit(f"quickstart: {url} answered {answer.status}: {text[:300]}")
    return text

def create(name):
    """Seconds from the request to `available`, as a client sees it."""
    connection = connect(api)
    began = time.monotonic()
    volume = json.loads(ask(api + "/volumes", {"volume": {"size": 1, "imageRef": image_id, "name": name}}, connection))["volume"]
    while volume["status"] not in ("available", "error"):
        time.sleep(0.005)
        volume = json.loads(ask(f"{api}/volumes/{volume['id']}", connection=connection))["volume"]
    if volume["status"] == "error":
        raise RuntimeError(f"volume {volume['id']} ended in error; the daemon's log says why")
    return time.monotonic() - began

def fetched_bytes():
    found = re.search(r"^imagecache_fill_bytes_total\S* (\S+)$", ask(metrics), re.M)
    return float(found[1]) if found else 0.0

def image_volumes():
    return int(usage()["volumes"]["in_use"])

def usage():
    return json.loads(ask(f"{api}/os-quota-sets/{internal}?usage=True"))["quota_set"]

def at_once(count, prefix):
    times, problems = [], []
    def work(number):
        try:
            times.append(create(f"{prefix}-{number}"))
        except (Exception, SystemExit) as problem:
            problems.append(problem)
    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    if problems:
        sys.exit(f"quickstart: {problems[0]}")
    return sorted(times), time.monotonic() - began

print(f"\n{'volumes from the image':24} {'wall':>9} {'median':>9} {'slowest':>9} {'from the origin':>16} {'image-volumes':>14}")
for title, count in (("1 cold", 1), ("1 warm", 1), ("20 at once, warm", 20)):
    before = fetched_bytes()
    times, wall = at_once(count, title.split()[-1])
    print(f"{title:24} {wall:7.3f} s {times[len(times) // 2]:7.3f} s {times[-1]:7.3f} s "
          f"{(fetched_bytes() - before) / 2**20:12.1f} MiB {image_volumes():14}", flush=True)
quota = usage()
print("\ninternal tenant: " + ", ".join(f"{quota[key]['in_use']} of {quota[key]['limit']} {key}" for key in ("volumes", "gigabytes")))
END

cat <<END

The daemon goes on running (pid $(cat "$dir/daemon.pid"), log $dir/daemon.log). Go on with, for example:

  $binary images list --config-file $dir/cinder.conf
  $binary image-volumes list --config-file $dir/cinder.conf
  curl -O http://127.0.0.1:$image_port/v2/images/$image_id/file
  openstack --os-auth-type none --os-endpoint http://127.0.0.1:$volume_port/v3/admin volume list

Put more images (qcow2, raw) into $dir/origin. Change $dir/cinder.conf as you would Cinder's.
Stop:  QUICKSTART_DIR=$dir $source_dir/scripts/quickstart.sh stop
END
say "done"
