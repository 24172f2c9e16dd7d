// A backend that keeps volumes in this process's memory: the example to copy for a new driver, and the fast backend of
// tests. Everything is gone when the process ends, so it keeps no promise of durability.
//
// Called by whoever holds it as a Driver, on any thread, several at once. What must always be true: a volume's content
// never changes once it is there. A clone shares it, and filling a volume makes new content and swaps it in whole.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "imagecache/driver.hpp"

namespace imagecache::backends {

class MemoryDriver final : public Driver {
 public:
  struct Options {
    std::uint64_t capacity_bytes = std::uint64_t{1} << 30;  ///< most bytes of content; holes cost nothing
    unsigned max_concurrency = 64;
  };

  explicit MemoryDriver(const Options& options);
  ~MemoryDriver() override;

  Capabilities capabilities() const override;
  Result<void> check_for_setup_error() override { return {}; }
  Result<VolumeStats> get_volume_stats() override;
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) override;
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) override;

  /// Fills `data` with the volume's bytes from `offset_bytes` on; returns how many there were before its end. Nothing
  /// else can look into a memory volume.
  Result<std::size_t> read(const VolumeId& volume, std::uint64_t offset_bytes, std::span<std::byte> data) const;

 private:
  class Content;
  struct Volume {
    std::uint64_t size_bytes = 0;
    std::shared_ptr<const Content> content;  // shared by a volume and its clones, whoever lives longest; null: all zero
  };
  class Capacity;
  class Reader;

  Result<void> add(const VolumeId& name, Volume volume);

  const Options options_;
  const std::shared_ptr<Capacity> capacity_;  // shared with each Content, which gives its bytes back when it goes
  mutable std::mutex mutex_;
  std::map<VolumeId, Volume> volumes_;  // protected by mutex_
};

/// Options: memory_capacity_mb (default 1024), memory_max_concurrency (default 64).
Result<std::unique_ptr<Driver>> make_memory_driver(const BackendOptions& options);

}  // namespace imagecache::backends
