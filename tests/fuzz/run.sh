#!/bin/bash
# run.sh FUZZER NAME [libFuzzer options]: makes the seeds for NAME in a temporary directory, adds what is kept in
# tests/fuzz/kept/NAME (inputs that once failed), and runs FUZZER from there. What it finds is left beside the fuzzer.
set -eu
fuzzer=$(readlink -f "$1") name=$2
shift 2
here=$(dirname "$(readlink -f "$0")")
corpus=$(mktemp -d "${TMPDIR:-/tmp}/fuzz-$name.XXXXXX")
trap 'rm -rf "$corpus"' EXIT

case $name in
  config)
    cp "$here/../../cinder.conf.sample" "$corpus/"
    printf '[keystone_authtoken]\nauth_section = k\n[k]\npassword = $$x\n[oslo_policy]\npolicy_dirs = a\npolicy_dirs = b\n' >"$corpus/identity"
    printf '[DEFAULT]\nlog_dir = $state_path/x\nenabled_backends = a, b\n[a]\nvolume_driver = file\n' >"$corpus/small"
    ;;
  paste)
    printf '[DEFAULT]\nfilters = cache cachemanage\n[pipeline:glance-api-x]\npipeline = cors authtoken\n  %%(filters)s end\n' >"$corpus/pipeline"
    printf '[composite:glance-api]\nuse = egg:Paste#urlmap\n/: api\n/v2: end\n/healthcheck: health\n' >"$corpus/map"
    printf '[composite:glance-api]\npaste.composite_factory = glance.api:pipeline_factory\ndefault = a b\n' >"$corpus/flavors"
    printf '[filter:cache]\npaste.filter_factory = glance.api.middleware.cache:CacheFilter.factory\nfilter-with = a\n' >"$corpus/filter"
    printf '[filter-app:glance-api]\nuse = egg:keystonemiddleware#auth_token\nnext = end\n[app:end]\nuse = end\n' >"$corpus/app"
    ;;
  inspect)
    # Small clusters make small files, in which a changed byte is more often one that matters.
    head -c 20000 /dev/urandom >"$corpus/raw"
    truncate -s 65536 "$corpus/raw"
    for how in "qcow2 -o cluster_size=512" "qcow2 -o compat=0.10,cluster_size=512" "qcow2 -c -o cluster_size=4096" \
      "qcow2 -c -o compression_type=zstd,cluster_size=4096" "vpc -o subformat=dynamic" "vpc -o subformat=fixed" \
      "vdi" "vmdk" "vmdk -o subformat=streamOptimized"; do
      # shellcheck disable=SC2086
      qemu-img convert -f raw -O $how "$corpus/raw" "$corpus/$(tr -c 'a-z0-9\n' _ <<<"$how")"
    done
    ;;
  policy)
    printf 'a: "role:admin or (project_id:%%(owner)s and not rule:b)"\nb: role:member\n"cache_list": "!"\n' >"$corpus/yaml"
    printf '{"a": [["role:admin", "rule:b"], []], "b": "\x27public\x27:%%(visibility)s and @", "cache_list": ""}' >"$corpus/json"
    printf '# x\n---\na: &x |\n  role:admin or\n  True:%%(x)s\nb: *x\n' >"$corpus/block"
    ;;
  range)
    printf 'bytes=0-99' >"$corpus/range"
    printf 'bytes=-99' >"$corpus/suffix"
    printf 'W/"a", "b" , *' >"$corpus/tags"
    printf '/v2.16/images/b8a4849c-1537-4574-badd-90de38482b5a/file?a=b\napplication/vnd.openstack.images-v2.7' >"$corpus/request"
    printf '{"versions": [{"id": "v2.15", "status": "CURRENT", "links": [{"rel": "self", "href": "http://origin:9292/v2/"}]}]}' >"$corpus/versions"
    ;;
  requests)
    printf '{"volume": {"size": 1, "imageRef": "b8a4849c-1537-4574-badd-90de38482b5a", "metadata": {"a": "b"}}}' >"$corpus/create"
    printf '{"backend": "b", "name": "volume-1", "size_gb": 10, "image_id": "b8a4849c-1537-4574-badd-90de38482b5a", "deadline_ms": 5}' >"$corpus/hook"
    printf '{"encryption": {"provider": "luks", "control_location": "front-end", "key_size": 256, "cipher": null}}' >"$corpus/encryption"
    printf '{"quota_set": {"volumes": 3, "gigabytes": "-1"}}' >"$corpus/quota"
    printf 'bytes=0-99' >"$corpus/range"
    printf 'volume 3.65' >"$corpus/version"
    printf 'http://[::1]:9292/image' >"$corpus/url"
    ;;
  image_hint)
    printf '{"event_type": "image.delete", "priority": "INFO", "publisher_id": "image.h", "payload": {"id": "b8a4849c-1537-4574-badd-90de38482b5a"}}' >"$corpus/plain"
    printf '{"oslo.version": "2.0", "oslo.message": "{\\"event_type\\": \\"image.member.delete\\", \\"payload\\": {\\"image_id\\": \\"B8A4849C-1537-4574-badd-90de38482b5a\\"}}"}' >"$corpus/envelope"
    ;;
  http)
    # The first byte says where what follows is torn in two.
    printf '\x80GET /a?b HTTP/1.1\r\nHost: h\r\nX-A: b\r\n\r\nPOST /n HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc' >"$corpus/two"
    printf '\x20POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\nGET http://o/ HTTP/1.0\r\n\r\n' >"$corpus/chunked"
    printf '\xf0PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nokOPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n' >"$corpus/expect"
    ;;
  image_record)
    printf '{"images": [{"id": "b8a4849c-1537-4574-badd-90de38482b5a", "name": "n"}], "next": "/v2/images?marker=x"}' >"$corpus/list"
    printf '{"id": "b8a4849c-1537-4574-badd-90de38482b5a", "name": "n", "status": "active", "size": 4096, "virtual_size": null, "min_disk": 1, "min_ram": 0, "disk_format": "qcow2", "container_format": "bare", "checksum": "d41d8cd98f00b204e9800998ecf8427e", "os_hash_algo": "sha512", "os_hash_value": "cf83", "updated_at": "2026-11-22T21:32:44Z", "os_distro": "debian", "tags": []}' >"$corpus/record"
    ;;
  cache_db)
    python3 - "$corpus" <<'END'
import sqlite3, sys
table = """CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, last_accessed REAL DEFAULT 0.0,
  last_modified REAL DEFAULT 0.0, size INTEGER DEFAULT 0, hits INTEGER DEFAULT 0, checksum TEXT)"""
for name, more in {
    "glance": [],
    "rows": ["INSERT INTO cached_images VALUES (hex(randomblob(16)), 1, 2, 3, 4, NULL)"] * 60,
    "text": ["INSERT INTO cached_images VALUES ('a', 'b', x'00', 9e999, -1, 'c')"],
    "wal": ["PRAGMA journal_mode = WAL"],
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON cached_images BEGIN DELETE FROM cached_images; END"],
    "index": ["CREATE INDEX i ON cached_images (abs(size)) WHERE hits > 0"],
}.items():
    db = sqlite3.connect(f"{sys.argv[1]}/{name}", isolation_level=None)
    db.execute("PRAGMA page_size = 512")
    for statement in [table, *more]:
        db.execute(statement)
    db.close()
END
    ;;
esac
if [ -d "$here/kept/$name" ]; then cp "$here/kept/$name/"* "$corpus/"; fi
"$fuzzer" -artifact_prefix="$(dirname "$fuzzer")/$name-" -print_final_stats=1 "$@" "$corpus"
