// What lies in a cache directory at start, held against the index's rows. Made for a million of each in about a second:
// names are read, files are not looked at, and both sides are joined in the order of their ids.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "image_cache/index.hpp"
#include "image_cache/names.hpp"

namespace imagecache::image_cache {

struct Inventory {
  std::vector<IndexRow> rows;                  ///< each with a regular file of its name; by id, each id once
  std::vector<IndexRow> rows_without_file;     ///< by id, each id once; the file may have come since
  std::vector<std::string> files_without_row;  ///< by name; the row may have come since
};

/// Blocks; reads the directory beside the rows, in a thread of its own. Requests may go on meanwhile: a file and its
/// row that are there from begin to end are found.
Result<Inventory> take_inventory(Index& index, const std::filesystem::path& directory, Reading& reading);

}  // namespace imagecache::image_cache
