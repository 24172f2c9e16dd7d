#include "image_cache/inventory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>

#include "base/fd.hpp"
#include "base/try.hpp"

namespace imagecache::image_cache {
namespace {

/// Many short texts one after another: a string for each would cost twice the room and most of the time.
class Names {
 public:
  void add(std::string_view name) {
    text_ += name;
    ends_.push_back(text_.size());
  }
  std::size_t size() const { return ends_.size(); }
  std::string_view operator[](std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(text_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string text_;
  std::vector<std::size_t> ends_;
};

/// The indices of `names` in the order of the names. Random ids differ in their first eight bytes, which are compared
/// where they lie.
template <class Name>
std::vector<std::size_t> sorted_order(std::size_t count, Name name) {
  struct Key {
    std::uint64_t first_bytes;
    std::size_t index;
  };
  std::vector<Key> keys;
  keys.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t first_bytes = 0;
    const std::string_view text = name(i);
    for (std::size_t byte = 0; byte < 8; ++byte) {
      first_bytes = first_bytes << 8 | (byte < text.size() ? static_cast<unsigned char>(text[byte]) : 0U);
    }
    keys.push_back({.first_bytes = first_bytes, .index = i});
  }
  std::ranges::sort(keys, [&](const Key& a, const Key& b) {
    return a.first_bytes != b.first_bytes ? a.first_bytes < b.first_bytes : name(a.index) < name(b.index);
  });
  std::vector<std::size_t> order;
  order.reserve(count);
  for (const Key& key : keys) order.push_back(key.index);
  return order;
}

/// Regular files directly in a directory.
Result<Names> names_in(const std::filesystem::path& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return base::fail_errno(directory.native(), errno);
  Names names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(listing.get());
    if (!entry) break;
    bool regular = entry->d_type == DT_REG;
    if (entry->d_type == DT_UNKNOWN) {  // some file systems leave it to stat
      struct stat info{};
      regular =
          ::fstatat(::dirfd(listing.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode);
    }
    if (regular) names.add(entry->d_name);
  }
  if (errno != 0) return base::fail_errno(directory.native(), errno);
  return names;
}

}  // namespace

Result<Inventory> take_inventory(Index& index, const std::filesystem::path& directory) {
  Result<Names> names;
  std::vector<std::size_t> by_name;
  std::jthread reader([&] {
    names = names_in(directory);
    if (names) by_name = sorted_order(names->size(), [&](std::size_t i) { return (*names)[i]; });
  });
  IMAGECACHE_TRY(std::vector<IndexRow> rows, index.rows());
  const auto by_id = sorted_order(rows.size(), [&](std::size_t i) -> std::string_view { return rows[i].image_id; });
  reader.join();
  if (!names) return std::unexpected(names.error());

  Inventory found;
  found.rows.reserve(rows.size());
  auto name = by_name.begin();
  const auto add_names_before = [&](std::string_view id) {
    for (; name != by_name.end() && (*names)[*name] < id; ++name) found.files_without_row.emplace_back((*names)[*name]);
  };
  for (const std::size_t i : by_id) {
    add_names_before(rows[i].image_id);
    if (name != by_name.end() && (*names)[*name] == rows[i].image_id) {
      found.rows.push_back(std::move(rows[i]));
      ++name;
    } else {
      found.rows_without_file.push_back(std::move(rows[i].image_id));
    }
  }
  for (; name != by_name.end(); ++name) found.files_without_row.emplace_back((*names)[*name]);
  return found;
}

}  // namespace imagecache::image_cache
