// What the directory origin has worked out of its files, kept in SQLite over restarts. Only a memory: everything in it
// can be worked out anew, so damage to it costs time and nothing else. Private to the room; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "imagecache/error.hpp"

namespace SQLite {
class Database;
}

namespace imagecache::origin {

/// By what a file is known to be still the same. The change time is in it because nobody can set it: a file written
/// in place and given its old mtime back is still another.
struct FileVersion {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;
  bool operator==(const FileVersion&) const = default;
};

struct FileFacts {
  FileVersion version;
  std::string sha512;
  std::string disk_format;
  std::optional<std::uint64_t> virtual_size_bytes;
};

class FileMemory {
 public:
  /// Makes the file if it is not there; one that is damaged is set aside for a new one, with a warning.
  static Result<std::unique_ptr<FileMemory>> open(const std::filesystem::path& path);
  ~FileMemory();

  /// Of this file in this version; nullopt too where the memory fails.
  std::optional<FileFacts> recall(const std::string& file_name, const FileVersion& version);
  /// A failure is logged: the file will be read again after a restart.
  void remember(const std::string& file_name, const FileFacts& facts);
  /// Drops what is known of files that are gone.
  void keep_only(const std::set<std::string>& file_names);

 private:
  explicit FileMemory(std::unique_ptr<SQLite::Database> database);
  std::mutex mutex_;
  std::unique_ptr<SQLite::Database> database_;  // protected by mutex_
};

}  // namespace imagecache::origin
