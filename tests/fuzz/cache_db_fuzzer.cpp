// Any bytes as cache.db, as another program or a failing disk may leave it: no crash, no endless loop, nothing in it is
// run, and in the end there is a database that keeps rows.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/log.hpp"
#include "image_cache/index.hpp"

namespace {

namespace fs = std::filesystem;

/// In memory where there is such a place, for each input is a file.
class Directory {
 public:
  Directory() {
    std::error_code ignored;
    const fs::path memory = "/dev/shm";
    const fs::path parent = fs::is_directory(memory, ignored) ? memory : fs::temp_directory_path();
    std::string pattern = (parent / "fuzz-cache-db-XXXXXX").native();
    if (!::mkdtemp(pattern.data())) std::abort();
    path = pattern;
  }
  ~Directory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  void empty() const {
    for (const auto& entry : fs::directory_iterator(path)) fs::remove_all(entry.path());
  }

  fs::path path;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  // Each broken file is warned of.
  if (!imagecache::base::log::setup({.log_file = "/dev/null"})) std::abort();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imagecache;
  using namespace imagecache::image_cache;
  static const Directory directory;
  directory.empty();
  const fs::path database = directory.path / "cache.db";
  std::ofstream(database, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));

  auto index = open_sqlite_index(database, {});
  if (!index) return 0;
  Reading reading;
  auto rows = (*index)->rows(reading);
  const std::string id = "b8a4849c-1537-4574-badd-90de38482b5a";
  std::vector<std::string> removals;
  if (rows && !rows->empty()) removals.push_back(rows->front().image_id);
  const auto write = [&] {
    return (*index)->apply({{.image_id = id, .size_bytes = 5}}, removals,
                           {{.image_id = id, .more_hits = 2, .last_accessed = 3}});
  };
  auto written = write();
  if (!written && written.error().code == Errc::corrupt) {
    written = write();
    if (!written) std::abort();  // a new database takes rows
  }
  if (!written) return 0;
  rows = (*index)->rows(reading);
  if (rows && !rows->empty() &&
      std::ranges::none_of(*rows, [&](const IndexRow& row) { return row.image_id == id && row.size_bytes == 5; })) {
    std::abort();
  }
  return 0;
}
