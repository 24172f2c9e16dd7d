#!/bin/bash
# cinder.sh start|stop DIR [SERVICE…]: Debian's own Cinder with the database and the queue it wants, on 127.0.0.1 and free ports.
#
# SERVICE is mariadb, rabbitmq, api, scheduler or volume; none named: all of them. Each has a folder DIR/SERVICE with its pid and
# log; ports, data and tables stay over a stop, so that a later start goes on with them. Where cinder-api listens: DIR/url.
#
# api, scheduler and volume read DIR/database.conf, which this makes, and then DIR/cinder.conf, which is the caller's: who may
# ask (keystone_authtoken), where images are (glance_api_servers), the internal tenant, enabled_backends and their sections.
# PYTHONPATH reaches them as the caller set it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/service.sh"

verb=${1:-} top=${2:-}
[ -n "$top" ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$top"
top=$(cd "$top" && pwd)

# service.sh works on the folder $dir.
launch() { # COMMAND…
  ! alive || { echo "cinder.sh: $(basename "$dir") is already running (pid $(cat "$dir/pid"))" >&2; return 1; }
  command -v "$1" >/dev/null || { echo "cinder.sh: no $1; run scripts/install-deps.sh test" >&2; return 1; }
  setsid "$@" </dev/null >>"$dir/out.log" 2>&1 &
  echo $! >"$dir/pid"
}

answers() { # WHAT COMMAND…: waits until the command succeeds
  local what=$1 i
  shift
  for i in $(seq 1800); do
    alive || { tail -5 "$dir/out.log" >&2; echo "cinder.sh: $what ended at start (logs are in $dir)" >&2; return 1; }
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  echo "cinder.sh: $what did not answer within 180 s (logs are in $dir)" >&2
  stop
  return 1
}

kept_port() { # a free port at the first time, the same one ever after
  [ -s "$dir/port" ] || free_port >"$dir/port"
  cat "$dir/port"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

start_mariadb() {
  local sql="mariadb --no-defaults --socket=$dir/sock --user=root"
  if [ ! -e "$dir/data" ]; then
    mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$dir/data.new" --auth-root-authentication-method=normal \
      --skip-test-db --skip-name-resolve >"$dir/install.log" 2>&1 || { tail -5 "$dir/install.log" >&2; return 1; }
    mv "$dir/data.new" "$dir/data"
  fi
  # What a power cut would lose is lost with the tests: no fsync.
  launch mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/data" --socket="$dir/sock" --pid-file="$dir/mysqld.pid" \
    --skip-networking --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=128M --max-connections=300 \
    --skip-name-resolve --character-set-server=utf8mb4
  answers mariadb $sql -e 'select 1'
  [ -e "$dir/made" ] || {
    $sql -e "create database cinder character set utf8mb3; create user cinder@localhost identified by 'secret';
             grant all on cinder.* to cinder@localhost"
    cinder-manage --config-file "$top/database.conf" db sync >"$dir/db_sync.log" 2>&1 ||
      { tail -5 "$dir/db_sync.log" >&2; echo "cinder.sh: cinder-manage db sync failed ($dir/db_sync.log)" >&2; return 1; }
    touch "$dir/made"
  }
}

start_rabbitmq() {
  local port
  port=$(kept_port)
  [ -s "$dir/epmd.port" ] || { free_port >"$dir/epmd.port"; free_port >"$dir/dist.port"; }
  printf 'loopback_users = none\nlisteners.tcp.1 = 127.0.0.1:%s\n' "$port" >"$dir/rabbitmq.conf"
  [ ! -e "$dir/more.conf" ] || cat "$dir/more.conf" >>"$dir/rabbitmq.conf"   # the caller's
  echo '[].' >"$dir/plugins"
  # Debian's /usr/sbin/rabbitmq-server insists on a user of its own; this is what it starts. The name service of Erlang (epmd)
  # is started by it too, as a daemon, unless one listens there already: ours, which ends with us.
  export RABBITMQ_NODENAME="e2e-$port@localhost" RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf RABBITMQ_MNESIA_BASE=$dir/data \
    RABBITMQ_LOG_BASE=$dir RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins RABBITMQ_CONF_ENV_FILE=/dev/null HOME=$dir \
    RABBITMQ_DIST_PORT="$(cat "$dir/dist.port")" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$(cat "$dir/epmd.port")" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
  dir=$top/epmd
  mkdir -p "$dir"
  launch epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT"
  dir=$top/rabbitmq
  launch /usr/lib/rabbitmq/bin/rabbitmq-server
  answers rabbitmq listens "$port"
}

cinder() { # PROGRAM
  launch "$1" --config-file "$top/database.conf" --config-file "$top/cinder.conf" --log-file "$dir/$1.log"
}

start_api() {
  cinder cinder-api
  answers cinder-api curl -fs "$(cat "$top/url")/healthcheck"
}

start_scheduler() { cinder cinder-scheduler; }
start_volume() { cinder cinder-volume; }

configure() {
  local rabbit api
  mkdir -p "$top"/{mariadb,rabbitmq,api,scheduler,volume,state}
  dir=$top/rabbitmq rabbit=$(kept_port)
  dir=$top/api api=$(kept_port)
  echo "http://127.0.0.1:$api" >"$top/url"
  sed 's|disable_by_file_path.*||' /usr/share/cinder-common/api-paste.ini >"$top/paste.ini"
  echo '{}' >"$top/policy.yaml"
  cat >"$top/database.conf" <<END
[DEFAULT]
transport_url = rabbit://guest:guest@127.0.0.1:$rabbit/
my_ip = 127.0.0.1
host = e2e
state_path = $top/state
image_conversion_dir = $top/state/conversion
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = $api
osapi_volume_workers = ${CINDER_API_WORKERS:-1}
api_paste_config = $top/paste.ini
rootwrap_config = /etc/cinder/rootwrap.conf
# db sync writes these down as the default quota class, which counts ever after.
quota_volumes = 500
quota_gigabytes = 5000
quota_snapshots = 500
[database]
connection = mysql+pymysql://cinder:secret@localhost/cinder?unix_socket=$top/mariadb/sock&charset=utf8
[oslo_concurrency]
lock_path = $top/state/locks
[coordination]
backend_url = file://$top/state/coordination
[oslo_messaging_notifications]
driver = noop
[oslo_policy]
policy_file = $top/policy.yaml
policy_dirs = $top/policy.d
END
}

all="mariadb rabbitmq api scheduler volume"
case $verb in
  start)
    configure
    for service in $(test $# -gt 2 && echo "${@:3}" || echo $all); do
      dir=$top/$service
      "start_$service"
    done
    ;;
  stop)
    for service in $(test $# -gt 2 && echo "${@:3}" || echo volume scheduler api rabbitmq epmd mariadb); do
      dir=$top/$service
      stop
    done
    ;;
  *) echo "cinder.sh: '$verb' is not start or stop" >&2; exit 2 ;;
esac
