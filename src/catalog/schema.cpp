#include "catalog/schema.hpp"

#include <fmt/format.h>

#include <array>

namespace imagecache::catalog {
namespace {

// One script per version, each taking the file from the version before. Never edit one that was released: add another.
//
// Numbers that would need a scan (usage per project and type, totals per backend) are rows kept by triggers: they
// cannot drift from what they count, whoever changes it.
constexpr std::array<const char*, schema_version> steps = {R"sql(
CREATE TABLE volumes (
  row INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  project_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  display_name TEXT NOT NULL,
  display_description TEXT NOT NULL,
  backend TEXT NOT NULL,
  host TEXT NOT NULL,
  volume_type TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  size_gb INTEGER NOT NULL,
  image_id TEXT NOT NULL,
  content_key TEXT NOT NULL,
  source_volume_id TEXT NOT NULL,
  availability_zone TEXT NOT NULL,
  bootable INTEGER NOT NULL,
  counts_quota INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  image_metadata TEXT NOT NULL,
  request_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX volumes_by_time ON volumes (created_at, id);
CREATE INDEX volumes_by_project ON volumes (project_id, created_at, id);
CREATE INDEX volumes_by_backend ON volumes (backend, created_at, id);
CREATE INDEX volumes_by_name ON volumes (display_name, created_at, id) WHERE display_name <> '';
CREATE INDEX volumes_by_status ON volumes (status, created_at, id) WHERE status <> 'available';

-- How many volumes and GiB count for a quota; volumes_all counts the others too: is the type in use?
CREATE TABLE volume_usage (
  project_id TEXT NOT NULL,
  volume_type TEXT NOT NULL,
  volumes_all INTEGER NOT NULL,
  volumes INTEGER NOT NULL,
  gigabytes INTEGER NOT NULL,
  PRIMARY KEY (project_id, volume_type)
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_usage_by_type ON volume_usage (volume_type);

CREATE TRIGGER volume_added AFTER INSERT ON volumes BEGIN
  INSERT INTO volume_usage (project_id, volume_type, volumes_all, volumes, gigabytes)
  VALUES (new.project_id, new.volume_type, 1, new.counts_quota, new.counts_quota * new.size_gb)
  ON CONFLICT (project_id, volume_type) DO UPDATE SET
    volumes_all = volumes_all + 1, volumes = volumes + excluded.volumes, gigabytes = gigabytes + excluded.gigabytes;
END;
CREATE TRIGGER volume_removed AFTER DELETE ON volumes BEGIN
  UPDATE volume_usage SET volumes_all = volumes_all - 1, volumes = volumes - old.counts_quota,
    gigabytes = gigabytes - old.counts_quota * old.size_gb
  WHERE project_id = old.project_id AND volume_type = old.volume_type;
  DELETE FROM volume_usage
  WHERE project_id = old.project_id AND volume_type = old.volume_type AND volumes_all = 0;
END;
CREATE TRIGGER volume_changed AFTER UPDATE OF project_id, volume_type, size_gb, counts_quota ON volumes BEGIN
  UPDATE volume_usage SET volumes_all = volumes_all - 1, volumes = volumes - old.counts_quota,
    gigabytes = gigabytes - old.counts_quota * old.size_gb
  WHERE project_id = old.project_id AND volume_type = old.volume_type;
  INSERT INTO volume_usage (project_id, volume_type, volumes_all, volumes, gigabytes)
  VALUES (new.project_id, new.volume_type, 1, new.counts_quota, new.counts_quota * new.size_gb)
  ON CONFLICT (project_id, volume_type) DO UPDATE SET
    volumes_all = volumes_all + 1, volumes = volumes + excluded.volumes, gigabytes = gigabytes + excluded.gigabytes;
  DELETE FROM volume_usage
  WHERE project_id = old.project_id AND volume_type = old.volume_type AND volumes_all = 0;
END;

-- Ids whose create was called off: none of them may be made any more. No foreign key: the row may never have been there.
CREATE TABLE fences (
  volume_id TEXT NOT NULL PRIMARY KEY,
  fenced_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX fences_by_time ON fences (fenced_at);

CREATE TABLE image_volumes (
  volume_id TEXT NOT NULL PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
  backend TEXT NOT NULL,
  content_key TEXT NOT NULL,
  image_id TEXT NOT NULL,
  image_updated_at TEXT NOT NULL,
  requesting_project TEXT NOT NULL,
  state TEXT NOT NULL,
  size_gb INTEGER NOT NULL,
  virtual_size_bytes INTEGER NOT NULL,
  clones INTEGER NOT NULL,
  pinned INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  last_used INTEGER NOT NULL,
  build_ms INTEGER NOT NULL,
  UNIQUE (backend, content_key)
) STRICT;
CREATE INDEX image_volumes_to_evict ON image_volumes (backend, last_used) WHERE state = 'ready' AND pinned = 0;

CREATE TABLE image_volume_totals (
  backend TEXT NOT NULL PRIMARY KEY,
  count INTEGER NOT NULL,
  size_gb INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER image_volume_added AFTER INSERT ON image_volumes BEGIN
  INSERT INTO image_volume_totals (backend, count, size_gb) VALUES (new.backend, 1, new.size_gb)
  ON CONFLICT (backend) DO UPDATE SET count = count + 1, size_gb = size_gb + excluded.size_gb;
END;
CREATE TRIGGER image_volume_removed AFTER DELETE ON image_volumes BEGIN
  UPDATE image_volume_totals SET count = count - 1, size_gb = size_gb - old.size_gb WHERE backend = old.backend;
END;
CREATE TRIGGER image_volume_resized AFTER UPDATE OF size_gb ON image_volumes BEGIN
  UPDATE image_volume_totals SET size_gb = size_gb - old.size_gb + new.size_gb WHERE backend = new.backend;
END;

CREATE TABLE quotas (
  project_id TEXT NOT NULL,
  resource TEXT NOT NULL,
  hard_limit INTEGER NOT NULL,
  PRIMARY KEY (project_id, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX quotas_by_resource ON quotas (resource);

CREATE TABLE volume_types (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  is_public INTEGER NOT NULL,
  extra_specs TEXT NOT NULL
) STRICT;
)sql",
                                                           R"sql(
ALTER TABLE volumes ADD COLUMN source_volid TEXT NOT NULL DEFAULT '';
ALTER TABLE volumes ADD COLUMN attachment TEXT NOT NULL DEFAULT '';

CREATE TABLE messages (
  id TEXT NOT NULL PRIMARY KEY,
  project_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  resource_type TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  action_id TEXT NOT NULL,
  detail_id TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_by_time ON messages (created_at, id);
CREATE INDEX messages_by_project ON messages (project_id, created_at, id);
CREATE INDEX messages_to_expire ON messages (expires_at);

CREATE TABLE quota_classes (
  class TEXT NOT NULL,
  resource TEXT NOT NULL,
  hard_limit INTEGER NOT NULL,
  PRIMARY KEY (class, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX quota_classes_by_resource ON quota_classes (resource);

CREATE TABLE volume_type_access (
  type_id TEXT NOT NULL REFERENCES volume_types (id) ON DELETE CASCADE,
  project_id TEXT NOT NULL,
  PRIMARY KEY (type_id, project_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_type_access_by_project ON volume_type_access (project_id);

CREATE TABLE service_states (
  host TEXT NOT NULL PRIMARY KEY,
  disabled INTEGER NOT NULL,
  disabled_reason TEXT NOT NULL,
  frozen INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql",
                                                           R"sql(
-- What a type says of encryption, as a JSON object of strings; {}: its volumes are not encrypted.
ALTER TABLE volume_types ADD COLUMN encryption TEXT NOT NULL DEFAULT '{}';
)sql",
                                                           R"sql(
-- Measured once it was sealed, since nothing of it changes afterwards; -1: the backend cannot say.
ALTER TABLE image_volumes ADD COLUMN used_bytes INTEGER NOT NULL DEFAULT -1;

-- Of which image (several may have the same bytes) and for which project an image-volume was cloned, and what that spared.
-- seen_at: when the service's own account last saw the image at the origin, 0: never.
CREATE TABLE image_volume_uses (
  volume_id TEXT NOT NULL REFERENCES image_volumes (volume_id) ON DELETE CASCADE,
  image_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  clones INTEGER NOT NULL,
  saved_ms INTEGER NOT NULL,
  last_used INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  PRIMARY KEY (volume_id, image_id, project_id)
) STRICT, WITHOUT ROWID;
INSERT INTO image_volume_uses
  SELECT volume_id, image_id, requesting_project, clones, 0, last_used, 0 FROM image_volumes;

-- Image-volumes that were wanted and not kept: the last of each kind, and how often.
CREATE TABLE refusals (
  backend TEXT NOT NULL,
  image_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  project_id TEXT NOT NULL,
  size_gb INTEGER NOT NULL,
  count INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  PRIMARY KEY (backend, image_id, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX refusals_by_time ON refusals (last_at);
)sql",
                                                           R"sql(
-- The pool of the backend, '' where it has one only: the same content may be kept in each. SQLite changes a table's
-- UNIQUE in no other way than by a new table, and the uses, which refer to the old one, would go with it.
CREATE TABLE image_volumes_in_pools (
  volume_id TEXT NOT NULL PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
  backend TEXT NOT NULL,
  content_key TEXT NOT NULL,
  image_id TEXT NOT NULL,
  image_updated_at TEXT NOT NULL,
  requesting_project TEXT NOT NULL,
  state TEXT NOT NULL,
  size_gb INTEGER NOT NULL,
  virtual_size_bytes INTEGER NOT NULL,
  clones INTEGER NOT NULL,
  pinned INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  last_used INTEGER NOT NULL,
  build_ms INTEGER NOT NULL,
  used_bytes INTEGER NOT NULL,
  pool TEXT NOT NULL,
  UNIQUE (backend, content_key, pool)
) STRICT;
INSERT INTO image_volumes_in_pools
  SELECT volume_id, backend, content_key, image_id, image_updated_at, requesting_project, state, size_gb,
         virtual_size_bytes, clones, pinned, created_at, last_used, build_ms, used_bytes, '' FROM image_volumes;
CREATE TABLE old_uses AS SELECT * FROM image_volume_uses;
DROP TABLE image_volume_uses;
DROP TABLE image_volumes;
ALTER TABLE image_volumes_in_pools RENAME TO image_volumes;
CREATE INDEX image_volumes_to_evict ON image_volumes (backend, last_used) WHERE state = 'ready' AND pinned = 0;
CREATE TRIGGER image_volume_added AFTER INSERT ON image_volumes BEGIN
  INSERT INTO image_volume_totals (backend, count, size_gb) VALUES (new.backend, 1, new.size_gb)
  ON CONFLICT (backend) DO UPDATE SET count = count + 1, size_gb = size_gb + excluded.size_gb;
END;
CREATE TRIGGER image_volume_removed AFTER DELETE ON image_volumes BEGIN
  UPDATE image_volume_totals SET count = count - 1, size_gb = size_gb - old.size_gb WHERE backend = old.backend;
END;
CREATE TRIGGER image_volume_resized AFTER UPDATE OF size_gb ON image_volumes BEGIN
  UPDATE image_volume_totals SET size_gb = size_gb - old.size_gb + new.size_gb WHERE backend = new.backend;
END;
CREATE TABLE image_volume_uses (
  volume_id TEXT NOT NULL REFERENCES image_volumes (volume_id) ON DELETE CASCADE,
  image_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  clones INTEGER NOT NULL,
  saved_ms INTEGER NOT NULL,
  last_used INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  PRIMARY KEY (volume_id, image_id, project_id)
) STRICT, WITHOUT ROWID;
INSERT INTO image_volume_uses SELECT * FROM old_uses;
DROP TABLE old_uses;
)sql"};

}  // namespace

Result<void> prepare_schema(Connection& connection) {
  const auto refuse = [&](Errc code, const std::string& why) { return fail(code, connection.path() + ": " + why); };

  if (connection.integer("SELECT count(*) FROM sqlite_schema") != 0 &&
      connection.integer("PRAGMA application_id") != catalog_application_id) {
    return refuse(Errc::corrupt, "is another program's database and no catalog; name another file");
  }
  const auto written_by = connection.integer("PRAGMA user_version");
  if (written_by > schema_version) {
    return refuse(Errc::unsupported,
                  fmt::format("was written by a newer version of this program (schema {}, this one knows {}); run that "
                              "version, or name another file",
                              written_by, schema_version));
  }
  if (connection.text("PRAGMA journal_mode=WAL") != "wal")
    return refuse(Errc::unsupported,
                  "lies on a file system without shared memory maps; put the catalog on a local one");
  if (written_by == schema_version) return {};

  // Another process may be doing the same: only who holds the write lock knows how far the file is.
  connection.execute("BEGIN IMMEDIATE");
  const auto now_at = connection.integer("PRAGMA user_version");
  for (auto step = now_at; step < schema_version; ++step) connection.execute(steps[static_cast<std::size_t>(step)]);
  if (now_at < schema_version) {
    connection.execute(
        fmt::format("PRAGMA user_version={}; PRAGMA application_id={}", schema_version, catalog_application_id)
            .c_str());
  }
  connection.execute("COMMIT");
  return {};
}

}  // namespace imagecache::catalog
