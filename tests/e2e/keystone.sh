#!/bin/bash
# keystone.sh start|stop DIR: a real Debian keystone on 127.0.0.1, a free port, SQLite and fernet tokens.
#
# start writes DIR/url (…/v3 is appended by clients) and DIR/ids.json, and waits until it answers. Users, all with the password
# "secret" in the domain "default": admin (admin in project admin), member and reader (that role in project-a), other (member
# in project-b), glance, cinder and imagecache (admin and service in project service), cinder-internal (member in the project of
# that name). stop ends what DIR/pid names and keeps the database and keys; a later start serves them again on the same port.
# Log: DIR/keystone.log.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/service.sh"

verb=${1:-} dir=${2:-}
[ -n "$dir" ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

manage() {
  keystone-manage --config-file "$dir/keystone.conf" "$@" >>"$dir/manage.log" 2>&1 ||
    { tail -5 "$dir/manage.log" >&2; echo "keystone.sh: keystone-manage $1 failed ($dir/manage.log)" >&2; return 1; }
}

make_database() {
  local me group
  me=$(id -un) group=$(id -gn)
  # The keys need no database, and each keystone-manage costs seconds of Python's start: side by side.
  manage fernet_setup --keystone-user "$me" --keystone-group "$group" &
  local keys=$!
  manage db_sync
  wait $keys
  # keystone reads on one connection while it writes on another, which is "database is locked" in any other journal mode.
  python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("PRAGMA journal_mode=WAL")' "$dir/keystone.db"
  # Its own endpoints too: a service that checks tokens finds keystone's API in the catalog.
  manage bootstrap --bootstrap-password secret --bootstrap-region-id RegionOne \
    --bootstrap-public-url "$1/v3" --bootstrap-internal-url "$1/v3" --bootstrap-admin-url "$1/v3"
}

# Over the API, from one Python: a command-line client costs two seconds a call.
make_users() {
  python3 - "$1" "$dir" <<'END'
import json, sys, urllib.request
url, folder = sys.argv[1] + "/v3", sys.argv[2]
token = ""

def call(method, path, body=None):
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None, method=method,
                                     headers={"Content-Type": "application/json", "X-Auth-Token": token})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return answer.headers, json.loads(text) if text else {}

scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
password = {"user": {"name": "admin", "domain": {"id": "default"}, "password": "secret"}}
headers, body = call("POST", "/auth/tokens", {"auth": {"scope": scope, "identity": {"methods": ["password"], "password": password}}})
token = headers["X-Subject-Token"]
roles = {role["name"]: role["id"] for role in call("GET", "/roles")[1]["roles"]}
if "service" not in roles:
    roles["service"] = call("POST", "/roles", {"role": {"name": "service"}})[1]["role"]["id"]
projects = {"admin": body["token"]["project"]["id"]}
for name in ("service", "project-a", "project-b", "cinder-internal"):
    projects[name] = call("POST", "/projects", {"project": {"name": name, "domain_id": "default"}})[1]["project"]["id"]
users = {"admin": body["token"]["user"]["id"]}
for name, project, granted in (("member", "project-a", ["member"]), ("reader", "project-a", ["reader"]), ("other", "project-b", ["member"]),
                               ("cinder-internal", "cinder-internal", ["member"]),
                               *((name, "service", ["admin", "service"]) for name in ("glance", "cinder", "imagecache"))):
    user = {"name": name, "domain_id": "default", "password": "secret"}
    users[name] = call("POST", "/users", {"user": user})[1]["user"]["id"]
    for role in granted:
        call("PUT", f"/projects/{projects[project]}/users/{users[name]}/roles/{roles[role]}")
with open(folder + "/ids.json", "w") as file:
    json.dump({"users": users, "projects": projects, "roles": roles}, file, indent=1)
END
}

start() {
  local port i
  ! alive || { echo "keystone.sh: already running in $dir (pid $(cat "$dir/pid"))" >&2; return 1; }
  command -v keystone-manage uwsgi_python3 >/dev/null ||
    { echo "keystone.sh: no keystone or uwsgi; run scripts/install-deps.sh test" >&2; return 1; }
  # The port stays over a restart: services and the catalog name it.
  port=$(sed -n 's/.*:\([0-9]*\)$/\1/p' "$dir/url" 2>/dev/null) || true
  [ -n "$port" ] || port=$(free_port)
  cat >"$dir/keystone.conf" <<END
[DEFAULT]
log_file = $dir/keystone.log
[database]
connection = sqlite:///$dir/keystone.db
sqlite_synchronous = false
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $dir/fernet/
[identity]
# These passwords protect nothing, and a test asks for many tokens.
password_hash_rounds = 4
[cache]
# A revoked token must be one at once: a test asks a moment later.
enabled = false
[oslo_policy]
# Debian's policy files belong to its package; these rules are keystone's own defaults.
policy_file = $dir/policy.yaml
END
  echo '{}' >"$dir/policy.yaml"
  [ -e "$dir/db.made" ] || { rm -f "$dir/keystone.db"; make_database "http://127.0.0.1:$port"; touch "$dir/db.made"; }
  # One process: SQLite has one writer, and threads are enough for tests. http-socket keeps no connection alive, so it says so.
  OS_KEYSTONE_CONFIG_FILES=$dir/keystone.conf setsid uwsgi_python3 --http-socket "127.0.0.1:$port" \
    --wsgi-file /usr/bin/keystone-wsgi-public --master --die-on-term --lazy-apps --enable-threads --processes 1 --threads 8 \
    --listen 100 --buffer-size 65535 --post-buffering 65536 --no-orphans --add-header "Connection: close" \
    </dev/null >"$dir/uwsgi.out" 2>&1 &
  echo $! >"$dir/pid"
  echo "http://127.0.0.1:$port" >"$dir/url"
  for i in $(seq 1800); do
    alive || { tail -5 "$dir/uwsgi.out" >&2; echo "keystone.sh: keystone ended at start ($dir/uwsgi.out)" >&2; return 1; }
    if curl -fs -o /dev/null "http://127.0.0.1:$port/v3"; then
      [ -e "$dir/ids.json" ] || make_users "http://127.0.0.1:$port" || { stop; return 1; }
      return 0
    fi
    sleep 0.1
  done
  echo "keystone.sh: keystone did not answer on port $port within 180 s ($dir/uwsgi.out)" >&2
  stop
  return 1
}

case $verb in
  start) start ;;
  stop) stop ;;
  *) echo "keystone.sh: '$verb' is not start or stop" >&2; exit 2 ;;
esac
