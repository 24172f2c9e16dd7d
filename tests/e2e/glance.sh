#!/bin/bash
# glance.sh start|stop DIR [--cache]: a real glance-api of Debian's, without authentication, on SQLite and a free port.
#
# start writes DIR/url and waits until it answers. With --cache its own image cache is on, in DIR/cache (or in the directory
# $GLANCE_CACHE_DIR, so that both we and it can be pointed at one), with the cache API open to everybody. stop ends what
# DIR/pid names and keeps the images: a later start serves them again. Log: DIR/glance-api.log.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin   # glance-api runs on Debian's python3, not on one that a user put first

verb=${1:-} dir=${2:-}
[ -n "$dir" ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

alive() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

stop() {
  alive || { rm -f "$dir/pid"; return 0; }
  local pid i
  pid=$(cat "$dir/pid")
  kill -TERM "$pid"
  for i in $(seq 100); do alive || break; sleep 0.1; done
  # It leads its own session, so what is left of it and its workers is exactly that group.
  ! alive || kill -KILL -- "-$pid" 2>/dev/null || true
  rm -f "$dir/pid"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {
  local flavor="" port i
  [ "${1:-}" = --cache ] && flavor=cachemanagement
  ! alive || { echo "glance.sh: already running in $dir (pid $(cat "$dir/pid"))" >&2; return 1; }
  command -v glance-api >/dev/null || { echo "glance.sh: no glance-api; run scripts/install-deps.sh test" >&2; return 1; }
  mkdir -p "$dir/store" "$dir/staging" "$dir/tasks" "${GLANCE_CACHE_DIR:-$dir/cache}"
  port=$(free_port)
  cp /etc/glance/glance-api-paste.ini "$dir/paste.ini"
  # The caller of an unauthenticated pipeline has no roles, so with the default policy every cache call is a 403.
  printf '%s: ""\n' manage_image_cache cache_list cache_image cache_delete >"$dir/policy.yaml"
  cat >"$dir/glance-api.conf" <<END
[DEFAULT]
bind_host = 127.0.0.1
bind_port = $port
workers = 1
worker_self_reference_url = http://127.0.0.1:$port
enabled_backends = files:file
image_cache_dir = ${GLANCE_CACHE_DIR:-$dir/cache}
image_cache_driver = sqlite
image_cache_max_size = 10737418240
log_file = $dir/glance-api.log
[database]
connection = sqlite:///$dir/glance.db
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = $dir/store/
[os_glance_staging_store]
filesystem_store_datadir = $dir/staging/
[os_glance_tasks_store]
filesystem_store_datadir = $dir/tasks/
[paste_deploy]
flavor = $flavor
config_file = $dir/paste.ini
[oslo_policy]
policy_file = $dir/policy.yaml
enforce_new_defaults = false
enforce_scope = false
END
  if [ ! -e "$dir/db.made" ]; then
    glance-manage --config-file "$dir/glance-api.conf" db_sync >"$dir/db_sync.log" 2>&1 ||
      { tail -5 "$dir/db_sync.log" >&2; echo "glance.sh: glance-manage db_sync failed ($dir/db_sync.log)" >&2; return 1; }
    touch "$dir/db.made"
  fi
  setsid glance-api --config-file "$dir/glance-api.conf" </dev/null >"$dir/glance-api.out" 2>&1 &
  echo $! >"$dir/pid"
  echo "http://127.0.0.1:$port" >"$dir/url"
  for i in $(seq 300); do
    alive || { tail -5 "$dir/glance-api.out" >&2; echo "glance.sh: glance-api ended at start ($dir/glance-api.log)" >&2; return 1; }
    curl -fs -o /dev/null "http://127.0.0.1:$port/v2/images" && return 0
    sleep 0.1
  done
  echo "glance.sh: glance-api did not answer on port $port within 30 s ($dir/glance-api.log)" >&2
  stop
  return 1
}

case $verb in
  start) start "${3:-}" ;;
  stop) stop ;;
  *) echo "glance.sh: '$verb' is not start or stop" >&2; exit 2 ;;
esac
