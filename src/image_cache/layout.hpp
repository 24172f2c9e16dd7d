// Every name in the cache directory. All but the last folder is Glance's (docs/image-cache-layout.md).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace imagecache::image_cache {

struct Layout {
  std::filesystem::path base;

  std::filesystem::path file(std::string_view id) const { return base / id; }
  std::filesystem::path incomplete_dir() const { return base / "incomplete"; }
  std::filesystem::path incomplete(std::string_view id) const { return incomplete_dir() / id; }
  std::filesystem::path invalid_dir() const { return base / "invalid"; }
  std::filesystem::path invalid(std::string_view id) const { return invalid_dir() / id; }
  std::filesystem::path queue_dir() const { return base / "queue"; }
  std::filesystem::path queue(std::string_view id) const { return queue_dir() / id; }
  /// Ours: what Glance's schema has no place for. A folder, because Glance counts and deletes stray files, not folders.
  std::filesystem::path own_dir() const { return base / ".cinder-image-cache"; }
  std::filesystem::path held_dir() const { return own_dir() / "held"; }
  std::filesystem::path ledger() const { return own_dir() / "ledger.sqlite"; }
};

}  // namespace imagecache::image_cache
