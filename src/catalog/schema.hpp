// The catalog's tables and their version. Private to the room.
#pragma once

#include "catalog/connection.hpp"

namespace imagecache::catalog {

/// What this program writes; PRAGMA user_version of the file.
constexpr int schema_version = 5;
/// PRAGMA application_id, "CIC1": tells a catalog from another program's SQLite file.
constexpr std::int64_t catalog_application_id = 0x43494331;

/// Brings the file to schema_version, from nothing or from an older version, in one transaction. Throws
/// SQLite::Exception; a file that is not ours to change is a failure, and is not changed.
Result<void> prepare_schema(Connection& connection);

}  // namespace imagecache::catalog
