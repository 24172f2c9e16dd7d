#include "image_cache/inventory.hpp"

#include <string_view>
#include <thread>

#include "base/try.hpp"

namespace imagecache::image_cache {
namespace {

/// Takes the rows in the order of their ids, without those of which there is another.
template <class Use>
void for_each_by_id(std::vector<IndexRow>& rows, Use use) {
  const auto by_id = sorted_order(rows.size(), [&](std::size_t i) -> std::string_view { return rows[i].image_id; });
  for (std::size_t i = 0; i < by_id.size(); ++i) {
    // A row that was written anew while it was read is there twice.
    const bool again = i + 1 < by_id.size() && rows[by_id[i]].image_id == rows[by_id[i + 1]].image_id;
    if (!again) use(rows[by_id[i]]);
  }
}

}  // namespace

Result<Inventory> take_inventory(Index& index, const std::filesystem::path& directory, Reading& reading) {
  Inventory found;
  if (index.rows_are_files()) {
    IMAGECACHE_TRY(std::vector<IndexRow> rows, index.rows(reading));
    found.rows.reserve(rows.size());
    for_each_by_id(rows, [&](IndexRow& row) { found.rows.push_back(std::move(row)); });
    return found;
  }
  Result<Names> names;
  std::vector<std::uint32_t> by_name;
  std::jthread reader([&] {
    names = names_in(directory, reading);
    if (names) by_name = sorted_order(names->size(), [&](std::size_t i) { return (*names)[i]; });
  });
  IMAGECACHE_TRY(std::vector<IndexRow> rows, index.rows(reading));
  reader.join();
  if (!names) return std::unexpected(names.error());

  found.rows.reserve(rows.size());
  auto name = by_name.begin();
  for_each_by_id(rows, [&](IndexRow& row) {
    for (; name != by_name.end() && (*names)[*name] < row.image_id; ++name) {
      found.files_without_row.emplace_back((*names)[*name]);
    }
    if (name != by_name.end() && (*names)[*name] == row.image_id) {
      found.rows.push_back(std::move(row));
      ++name;
    } else {
      found.rows_without_file.push_back(std::move(row));
    }
  });
  for (; name != by_name.end(); ++name) found.files_without_row.emplace_back((*names)[*name]);
  return found;
}

}  // namespace imagecache::image_cache
