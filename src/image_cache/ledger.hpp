// What is known of each image file beyond Glance's rows: whose content it is, and which file exactly was verified. And
// of each partial file, whose content it is a part of, so that it may be gone on with after a crash.
//
// Blocks; any thread. It may be lost: a file that it does not know is verified before it is served again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "image_cache/index.hpp"
#include "imagecache/error.hpp"

namespace imagecache::image_cache {

/// A file whose digest was found right.
struct Verified {
  std::string content_key;  ///< origin::ImageInfo::content_key()
  Stamp stamp;
};

class Ledger {
 public:
  static Result<std::unique_ptr<Ledger>> open(const std::filesystem::path& path);
  ~Ledger();

  /// The row of one image; nullopt if there is none.
  Result<std::optional<Verified>> find_verified(const std::string& image_id);
  Result<std::map<std::string, std::string>> partials();  ///< image id → content key

  Result<void> begin_partial(const std::string& image_id, const std::string& content_key);
  Result<void> drop_partial(const std::string& image_id);
  /// Also ends the partial of that id.
  Result<void> put_verified(const std::string& image_id, const Verified& verified);
  Result<void> drop_verified(const std::string& image_id);
  Result<void> drop_verified(const std::vector<std::string>& image_ids);  ///< all at once
  /// The same files under other stamps, all at once; those that are not known under the former are left alone.
  Result<void> restamp(const std::vector<Restamped>& moved);

  /// Images that eviction must leave alone, whether they are cached or not. By id.
  Result<std::vector<std::string>> pins();
  Result<void> pin(const std::string& image_id);
  Result<void> unpin(const std::string& image_id);  ///< absent is a success

 private:
  struct Impl;
  explicit Ledger(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imagecache::image_cache
