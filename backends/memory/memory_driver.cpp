#include "backends/memory/memory_driver.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {

namespace {
constexpr std::uint64_t chunk_bytes = 64 * base::kib;
}  // namespace

/// Bytes taken, against a limit. Any thread.
class MemoryDriver::Capacity {
 public:
  explicit Capacity(std::uint64_t limit) : limit_(limit) {}
  bool take(std::uint64_t bytes) {
    std::uint64_t used = used_.load();
    while (limit_ - used >= bytes) {
      if (used_.compare_exchange_weak(used, used + bytes)) return true;
    }
    return false;
  }
  void give_back(std::uint64_t bytes) { used_ -= bytes; }
  std::uint64_t used() const { return used_.load(); }

 private:
  const std::uint64_t limit_;
  std::atomic<std::uint64_t> used_ = 0;  // never above limit_
};

/// Sparse bytes. Written by several threads while it is being filled, immutable afterwards.
class MemoryDriver::Content {
 public:
  explicit Content(std::shared_ptr<Capacity> capacity) : capacity_(std::move(capacity)) {}
  ~Content() { capacity_->give_back(chunks_.size() * chunk_bytes); }
  Content(const Content&) = delete;
  Content& operator=(const Content&) = delete;

  Result<void> write(std::uint64_t offset, std::span<const std::byte> data) {
    const std::scoped_lock lock(mutex_);
    while (!data.empty()) {
      const std::uint64_t within = offset % chunk_bytes;
      const std::size_t part = std::min<std::uint64_t>(data.size(), chunk_bytes - within);
      auto chunk = chunks_.find(offset / chunk_bytes);
      if (chunk == chunks_.end()) {
        if (!capacity_->take(chunk_bytes)) return fail(Errc::no_space, "memory_capacity_mb is used up");
        try {
          chunk = chunks_.emplace(offset / chunk_bytes, std::vector<std::byte>(chunk_bytes)).first;
        } catch (const std::bad_alloc&) {
          capacity_->give_back(chunk_bytes);
          return fail(Errc::no_space, "out of memory");
        }
      }
      std::memcpy(chunk->second.data() + within, data.data(), part);
      data = data.subspan(part);
      offset += part;
    }
    return {};
  }

  /// The first byte from `offset` on that was ever written, or `end`.
  std::uint64_t next_data(std::uint64_t offset, std::uint64_t end) const {
    const auto chunk = chunks_.lower_bound(offset / chunk_bytes);
    return chunk == chunks_.end() ? end : std::min(end, std::max(offset, chunk->first * chunk_bytes));
  }

  /// Once the filling is over.
  std::uint64_t stored_bytes() const { return chunks_.size() * chunk_bytes; }

  /// Copies what is there over `data`, which the caller has zeroed.
  void read(std::uint64_t offset, std::span<std::byte> data) const {
    while (!data.empty()) {
      const std::uint64_t within = offset % chunk_bytes;
      const std::size_t part = std::min<std::uint64_t>(data.size(), chunk_bytes - within);
      if (const auto chunk = chunks_.find(offset / chunk_bytes); chunk != chunks_.end()) {
        std::memcpy(data.data(), chunk->second.data() + within, part);
      }
      data = data.subspan(part);
      offset += part;
    }
  }

 private:
  const std::shared_ptr<Capacity> capacity_;
  std::mutex mutex_;  // for write() only: nobody reads before the filling is over
  std::map<std::uint64_t, std::vector<std::byte>> chunks_;
};

MemoryDriver::MemoryDriver(const Options& options)
    : options_(options), capacity_(std::make_shared<Capacity>(options.capacity_bytes)) {}
MemoryDriver::~MemoryDriver() = default;

Capabilities MemoryDriver::capabilities() const {
  return {.clone = CloneSupport::copy_on_write, .max_concurrency = options_.max_concurrency, .atomic_clones = true};
}

Result<VolumeStats> MemoryDriver::get_volume_stats() {
  return VolumeStats{.total_bytes = options_.capacity_bytes, .free_bytes = options_.capacity_bytes - capacity_->used()};
}

Result<std::vector<VolumeId>> MemoryDriver::list_volumes() {
  const std::scoped_lock lock(mutex_);
  std::vector<VolumeId> names;
  names.reserve(volumes_.size());
  for (const auto& [name, volume] : volumes_) names.push_back(name);
  return names;
}

Result<void> MemoryDriver::add(const VolumeId& name, Volume volume) {
  if (!volumes_.emplace(name, std::move(volume)).second) {
    return fail(Errc::already_exists, name.name + ": there is a volume of this name already");
  }
  return {};
}

Result<void> MemoryDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  const std::scoped_lock lock(mutex_);
  return add(volume, {.size_bytes = size_bytes, .content = nullptr});
}

Result<void> MemoryDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  std::uint64_t size_bytes = 0;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = volumes_.find(volume);
    if (found == volumes_.end()) return fail(Errc::not_found, volume.name + ": no such volume");
    size_bytes = found->second.size_bytes;
  }
  if (image.virtual_size_bytes() > size_bytes) {
    return fail(Errc::invalid_argument, volume.name + ": too small for the image, which is " +
                                            std::to_string(image.virtual_size_bytes()) + " bytes");
  }
  auto content = std::make_shared<Content>(capacity_);
  const auto sink = [&](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
    if (offset > size_bytes || data.size() > size_bytes - offset) {
      return fail(Errc::corrupt, volume.name + ": the image has data behind its end");
    }
    return content->write(offset, data);
  };
  if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": copying the image was cancelled");
  if (auto copied = image.for_each_data(sink, stop); !copied) {
    return fail(copied.error().code, volume.name + ": cannot copy the image: " + copied.error().message);
  }
  const std::scoped_lock lock(mutex_);
  const auto found = volumes_.find(volume);
  if (found == volumes_.end()) return fail(Errc::not_found, volume.name + ": was deleted while it was filled");
  found->second.content = std::move(content);
  return {};
}

Result<void> MemoryDriver::create_cloned_volume(const CloneSpec& clone) {
  Volume target{.size_bytes = clone.size_bytes, .content = {}};
  {
    const std::scoped_lock lock(mutex_);
    const auto source = volumes_.find(clone.source);
    if (source == volumes_.end()) return fail(Errc::not_found, clone.source.name + ": no such volume to clone");
    if (clone.size_bytes < source->second.size_bytes) {
      return fail(Errc::invalid_argument, clone.target.name + ": a clone cannot be smaller than its source");
    }
    target.content = source->second.content;
  }
  if (clone.before_named) IMAGECACHE_CHECK(clone.before_named());
  const std::scoped_lock lock(mutex_);
  return add(clone.target, std::move(target));
}

Result<void> MemoryDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  const std::scoped_lock lock(mutex_);
  const auto found = volumes_.find(volume);
  if (found == volumes_.end()) return fail(Errc::not_found, volume.name + ": no such volume");
  if (new_size_bytes < found->second.size_bytes) {
    return fail(Errc::invalid_argument, volume.name + ": cannot shrink");
  }
  found->second.size_bytes = new_size_bytes;
  return {};
}

Result<void> MemoryDriver::delete_volume(const VolumeId& volume) {
  const std::scoped_lock lock(mutex_);
  volumes_.erase(volume);
  return {};
}

Result<ConnectionInfo> MemoryDriver::initialize_connection(const VolumeId& volume) {
  const std::scoped_lock lock(mutex_);
  if (!volumes_.contains(volume)) return fail(Errc::not_found, volume.name + ": no such volume");
  return fail(Errc::unsupported, volume.name + ": a volume in memory cannot be attached; use another volume_driver");
}

/// Holds the content as it was when it was opened.
class MemoryDriver::Reader final : public VolumeReader {
 public:
  explicit Reader(Volume volume) : volume_(std::move(volume)) {}
  std::uint64_t size_bytes() const override { return volume_.size_bytes; }
  Result<std::uint64_t> next_data(std::uint64_t offset_bytes) override {
    return volume_.content ? volume_.content->next_data(offset_bytes, volume_.size_bytes) : volume_.size_bytes;
  }
  Result<void> read(std::uint64_t offset_bytes, std::span<std::byte> into) override {
    std::memset(into.data(), 0, into.size());
    if (volume_.content) volume_.content->read(offset_bytes, into);
    return {};
  }

 private:
  const Volume volume_;
};

Result<std::unique_ptr<VolumeReader>> MemoryDriver::read_volume(const VolumeId& volume) {
  const std::scoped_lock lock(mutex_);
  const auto found = volumes_.find(volume);
  if (found == volumes_.end()) return fail(Errc::not_found, volume.name + ": no such volume");
  return std::make_unique<Reader>(found->second);
}

Result<std::optional<std::uint64_t>> MemoryDriver::used_bytes(const VolumeId& volume) {
  const std::scoped_lock lock(mutex_);
  const auto found = volumes_.find(volume);
  if (found == volumes_.end()) return fail(Errc::not_found, volume.name + ": no such volume");
  return found->second.content ? found->second.content->stored_bytes() : 0;
}

Result<std::size_t> MemoryDriver::read(const VolumeId& volume, std::uint64_t offset_bytes,
                                       std::span<std::byte> data) const {
  Volume found;
  {
    const std::scoped_lock lock(mutex_);
    const auto entry = volumes_.find(volume);
    if (entry == volumes_.end()) return fail(Errc::not_found, volume.name + ": no such volume");
    found = entry->second;
  }
  if (offset_bytes >= found.size_bytes) return 0;
  data = data.first(std::min<std::uint64_t>(data.size(), found.size_bytes - offset_bytes));
  std::ranges::fill(data, std::byte{0});
  if (found.content) found.content->read(offset_bytes, data);
  return data.size();
}

Result<std::unique_ptr<Driver>> make_memory_driver(const BackendOptions& options) {
  const auto number = [&](std::string_view name, std::uint64_t otherwise, std::uint64_t most) -> Result<std::uint64_t> {
    const auto text = options.get(name);
    if (!text) return otherwise;
    const auto value = base::parse_unsigned(base::trim(*text));
    if (!value || *value == 0 || *value > most) {
      return fail(Errc::invalid_argument, "[" + options.section() + "] " + std::string(name) + " = " + *text +
                                              ": must be a whole number from 1 to " + std::to_string(most));
    }
    return *value;
  };
  IMAGECACHE_TRY(const std::uint64_t capacity_mb, number("memory_capacity_mb", 1024, std::uint64_t{1} << 40));
  IMAGECACHE_TRY(const std::uint64_t concurrency, number("memory_max_concurrency", 64, 1024));
  return std::make_unique<MemoryDriver>(MemoryDriver::Options{.capacity_bytes = capacity_mb * base::mib,
                                                              .max_concurrency = static_cast<unsigned>(concurrency)});
}

}  // namespace imagecache::backends
