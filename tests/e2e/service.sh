# Sourced by keystone.sh, glance.sh and cinder.sh, which set $dir: what is the same of any service that one process serves from a
# folder. DIR/pid names that process, which leads a session of its own.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin   # OpenStack runs on Debian's python3, not on one that a user put first
export PYTHONDONTWRITEBYTECODE=1

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
