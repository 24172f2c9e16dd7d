// `volume_driver = cinder`: volumes of any storage that Cinder has a driver for, made by that driver. What is to be
// done is sent to the cinder-volume that has it, where cinder_image_cache.generic (integrations/cinder) does it;
// images, and what is kept, counted and evicted, stay ours. README.md says how the two find each other.
//
// Blocks while Cinder's driver works. Nothing is kept here: what a call has made is in Cinder's database and on the
// storage.
#pragma once

#include <chrono>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>
#include <string_view>

#include "imagecache/driver.hpp"

namespace imagecache::backends {

class CinderDriver final : public Driver {
 public:
  struct Options {
    std::string section;
    std::filesystem::path directory;  ///< image_cache_driver_dir: the socket of cinder-volume, and images on their way
    unsigned max_concurrency = 8;     ///< image_cache_driver_max_concurrency
    std::chrono::seconds timeout{3600};  ///< image_cache_driver_timeout: of one call, a copy among them
  };

  explicit CinderDriver(Options options) : options_(std::move(options)) {}

  Capabilities capabilities() const override;
  /// Removes what a crash left of images on their way. cinder-volume need not be there yet.
  Result<void> check_for_setup_error() override;
  Result<VolumeStats> get_volume_stats() override;
  /// Errc::unsupported: Cinder's drivers have no such call.
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  /// By way of a raw file in `directory`, from which Cinder's driver copies as if it had downloaded it.
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> seal(const VolumeId& volume) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;

 private:
  std::filesystem::path image_path(const VolumeId& volume) const;
  /// POST /<verb> with `body`. Errc::unavailable if cinder-volume is not there, or left in the middle.
  Result<nlohmann::json> call(std::string_view verb, const nlohmann::json& body, std::stop_token stop = {}) const;
  Result<void> change(std::string_view verb, const nlohmann::json& body, std::stop_token stop = {}) const;

  const Options options_;
};

/// Options: image_cache_driver_dir (needed), image_cache_driver_max_concurrency, image_cache_driver_timeout.
Result<std::unique_ptr<Driver>> make_cinder_driver(const BackendOptions& options);

}  // namespace imagecache::backends
