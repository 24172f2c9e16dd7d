#!/bin/bash
# glance.sh start|stop DIR [option…]: a real glance-api of Debian's on SQLite and a free port.
#
#   --cache               its own image cache on (flavor …cachemanagement), in DIR/cache or in the directory $GLANCE_CACHE_DIR,
#                         so that both we and it can be pointed at one
#   --driver NAME         the cache's driver: sqlite (default) or xattr
#   --keystone URL        ask for tokens (flavor keystone…) that keystone.sh's keystone at URL gave. Without it everybody may
#                         do everything, the cache API included
#   --policy 'RULE: "…"'  a line of its policy file; as many as you like
#   --remember-tokens     believe Keystone's word on a token for five minutes, as it comes, and do not ask each time
#   --notifications URL   tell what happens to images on the RabbitMQ at URL
#   --norange             keep images in a store that cannot serve ranges (as rbd, swift and s3 cannot)
#
# start writes DIR/url and waits until it answers. stop ends what DIR/pid names and keeps the images: a later start serves them
# again. Log: DIR/glance-api.log, what it was told: DIR/glance-api.conf and DIR/policy.yaml.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/service.sh"

verb=${1:-} dir=${2:-}
[ -n "$dir" ] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

start() {
  local keystone="" cache="" notifications="" driver=sqlite store=file policy="" token_cache_time=-1 flavor port i
  while [ $# -gt 0 ]; do
    case $1 in
      --cache) cache=cachemanagement; shift ;;
      --norange) store=norange; shift ;;
      --remember-tokens) token_cache_time=300; shift ;;
      --driver) driver=$2; shift 2 ;;
      --keystone) keystone=$2; shift 2 ;;
      --notifications) notifications=$2; shift 2 ;;
      --policy) policy+="$2"$'\n'; shift 2 ;;
      *) echo "glance.sh: unknown option '$1'" >&2; return 2 ;;
    esac
  done
  flavor=${keystone:+keystone}${keystone:+${cache:++}}$cache
  ! alive || { echo "glance.sh: already running in $dir (pid $(cat "$dir/pid"))" >&2; return 1; }
  command -v glance-api >/dev/null || { echo "glance.sh: no glance-api; run scripts/install-deps.sh test" >&2; return 1; }
  mkdir -p "$dir/locks" "$dir/store" "$dir/staging" "$dir/tasks" "${GLANCE_CACHE_DIR:-$dir/cache}"
  port=$(free_port)
  cp /etc/glance/glance-api-paste.ini "$dir/paste.ini"
  # The caller of an unauthenticated pipeline has no roles, so with the default policy every cache call is a 403.
  [ -n "$keystone" ] || policy=$(printf '%s: ""\n' manage_image_cache cache_list cache_image cache_delete)$'\n'$policy
  printf '%s' "${policy:-"{}"$'\n'}" >"$dir/policy.yaml"
  cat >"$dir/glance-api.conf" <<END
[DEFAULT]
bind_host = 127.0.0.1
bind_port = $port
workers = 1
worker_self_reference_url = http://127.0.0.1:$port
enabled_backends = files:$store
${cache:+image_cache_dir = ${GLANCE_CACHE_DIR:-$dir/cache}}
image_cache_driver = $driver
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
[oslo_concurrency]
lock_path = $dir/locks
[oslo_policy]
policy_file = $dir/policy.yaml
enforce_new_defaults = false
enforce_scope = false
END
  # One that cannot be sent holds up no call.
  [ -z "$notifications" ] || cat >>"$dir/glance-api.conf" <<END
[oslo_messaging_notifications]
driver = messagingv2
transport_url = $notifications
retry = 0
END
  # Unless told otherwise, tokens are asked about each time: a revoked one must be refused at once, a test asks a moment later.
  [ -z "$keystone" ] || cat >>"$dir/glance-api.conf" <<END
[keystone_authtoken]
www_authenticate_uri = $keystone
auth_url = $keystone
auth_type = password
username = glance
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
token_cache_time = $token_cache_time
service_token_roles = service
service_token_roles_required = true
END
  if [ ! -e "$dir/db.made" ]; then
    glance-manage --config-file "$dir/glance-api.conf" db_sync >"$dir/db_sync.log" 2>&1 ||
      { tail -5 "$dir/db_sync.log" >&2; echo "glance.sh: glance-manage db_sync failed ($dir/db_sync.log)" >&2; return 1; }
    touch "$dir/db.made"
  fi
  # The store of --norange is a plug-in that stands beside this script.
  PYTHONPATH=$here/norange_store \
    setsid glance-api --config-file "$dir/glance-api.conf" </dev/null >"$dir/glance-api.out" 2>&1 &
  echo $! >"$dir/pid"
  echo "http://127.0.0.1:$port" >"$dir/url"
  for i in $(seq 1200); do
    alive || { tail -5 "$dir/glance-api.out" >&2; echo "glance.sh: glance-api ended at start ($dir/glance-api.log)" >&2; return 1; }
    curl -fs -o /dev/null "http://127.0.0.1:$port/healthcheck" && return 0
    sleep 0.1
  done
  echo "glance.sh: glance-api did not answer on port $port within 120 s ($dir/glance-api.log)" >&2
  stop
  return 1
}

case $verb in
  start) start "${@:3}" ;;
  stop) stop ;;
  *) echo "glance.sh: '$verb' is not start or stop" >&2; exit 2 ;;
esac
