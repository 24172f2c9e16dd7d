// The names in a directory of a million files: read in one go, kept in one piece, and put in order without a string for
// each.
#pragma once

#include <dirent.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::image_cache {

/// How far the reading of a directory and of its index is, for people, and whether it is still wanted.
struct Reading {
  explicit Reading(std::stop_token until = {}) : stop(std::move(until)) {}
  const std::stop_token stop;            ///< ends it soon, as Errc::cancelled
  std::atomic<std::uint64_t> files = 0;  ///< seen in the directory so far
  std::atomic<std::uint64_t> rows = 0;   ///< read of the index so far
};

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

/// Regular files directly in a directory, in its own order. Blocks.
Result<Names> names_in(const std::filesystem::path& directory, Reading& reading);

/// The indices of `count` names, name(0)…, in the order of the names. Random ids differ in their first eight bytes,
/// which are compared where they lie.
template <class Name>
std::vector<std::uint32_t> sorted_order(std::size_t count, Name name) {
  struct Key {
    std::uint64_t first_bytes;
    std::uint32_t index;
  };
  std::vector<Key> keys;
  keys.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
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
  std::vector<std::uint32_t> order;
  order.reserve(count);
  for (const Key& key : keys) order.push_back(key.index);
  return order;
}

}  // namespace imagecache::image_cache
