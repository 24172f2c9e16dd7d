#include "backends/lvm/lvm_driver.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/crash_point.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "base/volume_file.hpp"

namespace imagecache::backends {
namespace {

// On a thick volume that is growing: from here on it is not known to be zeroes.
constexpr std::string_view zero_from_tag = "cinder-image-cache.zero-from.";

Error about(const VolumeId& volume, std::string_view what, Error error) {
  return {error.code, volume.name + ": " + std::string(what) + ": " + error.message};
}

/// The service asks for no clone that is smaller than what it has made: somebody else has been at the source since.
std::unexpected<Error> source_has_grown(const CloneSpec& clone, std::uint64_t size_bytes) {
  return fail(Errc::corrupt, clone.target.name + ": " + clone.source.name + " has become " +
                                 std::to_string(size_bytes) + " bytes, larger than the clone");
}

std::optional<std::uint64_t> zero_from(const LogicalVolume& volume) {
  for (const std::string_view tag : volume.tags) {
    if (tag.starts_with(zero_from_tag)) return base::parse_unsigned(tag.substr(zero_from_tag.size()));
  }
  return std::nullopt;
}

}  // namespace

Capabilities LvmDriver::capabilities() const {
  return {.clone = thin_ ? CloneSupport::copy_on_write : CloneSupport::full_copy,
          .max_concurrency = options_.max_concurrency};
}

Result<VolumeStats> LvmDriver::get_volume_stats() {
  if (!thin_) {
    IMAGECACHE_TRY(const VolumeGroupSpace space, group_.space());
    return VolumeStats{.total_bytes = space.size_bytes, .free_bytes = space.free_bytes};
  }
  IMAGECACHE_TRY(const LogicalVolume pool, group_.find(group_.pool_name()));
  const auto used_bytes = static_cast<std::uint64_t>(static_cast<double>(pool.size_bytes) * pool.data_percent / 100);
  return VolumeStats{.total_bytes = pool.size_bytes, .free_bytes = pool.size_bytes - used_bytes};
}

bool LvmDriver::is_name(const std::string& name) const {
  // A group may hold the host's own file systems, and it holds Cinder's snapshots ("_snapshot-…", "clone-snap-…").
  return name.size() > options_.name_before.size() + options_.name_behind.size() &&
         name.starts_with(options_.name_before) && name.ends_with(options_.name_behind) && base::is_safe_name(name);
}

Result<void> LvmDriver::check_name(const VolumeId& volume) const {
  if (is_name(volume.name)) return {};
  return fail(Errc::invalid_argument, volume.name + ": not a name that a volume can have, by volume_name_template");
}

bool LvmDriver::is_volume(const LogicalVolume& volume) const {
  return is_name(volume.name) && !volume.is_thin_pool() && !volume.is_snapshot();
}

Result<LogicalVolume> LvmDriver::find(const VolumeId& volume) {
  IMAGECACHE_CHECK(check_name(volume));
  IMAGECACHE_TRY(LogicalVolume found, group_.find(volume.name));
  if (!is_volume(found)) return fail(Errc::conflict, volume.name + " is a pool or a snapshot and no volume");
  return found;
}

Result<std::vector<VolumeId>> LvmDriver::list_volumes() {
  IMAGECACHE_TRY(std::vector<LogicalVolume> there, group_.list());
  std::vector<VolumeId> volumes;
  for (LogicalVolume& volume : there) {
    if (is_volume(volume)) volumes.push_back({std::move(volume.name)});
  }
  return volumes;
}

Result<Device> LvmDriver::open(const VolumeId& volume, Device::Use use) {
  IMAGECACHE_CHECK(check_name(volume));
  const std::string path = group_.device_path(volume.name);
  IMAGECACHE_TRY(std::optional<Device> device, Device::open(path, volume.name, use));
  if (device) return std::move(*device);
  if (auto active = group_.activate(volume.name); !active) {
    return std::unexpected(about(volume, "cannot be activated", std::move(active).error()));
  }
  IMAGECACHE_TRY(device, Device::open(path, volume.name, use));
  if (device) return std::move(*device);
  return fail(Errc::internal, volume.name + ": is active, but there is no " + path);
}

Result<void> LvmDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  IMAGECACHE_CHECK(check_name(volume));
  auto made = thin_ ? group_.create_thin(volume.name, size_bytes) : group_.create_thick(volume.name, size_bytes);
  if (!made) return std::unexpected(about(volume, "cannot create", std::move(made).error()));
  base::crash_point("volume.created");
  if (thin_) return {};
  const auto zeroed = [&]() -> Result<void> {
    IMAGECACHE_TRY(const Device device, open(volume, Device::Use::write));
    IMAGECACHE_CHECK(device.zero(0, device.size_bytes()));
    return device.sync();
  }();
  if (!zeroed) static_cast<void>(group_.remove(volume.name));
  return zeroed;
}

Result<void> LvmDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  IMAGECACHE_TRY(const Device device, open(volume, Device::Use::write));
  if (image.virtual_size_bytes() > device.size_bytes()) {
    return fail(Errc::invalid_argument, volume.name + ": too small for the image, which is " +
                                            std::to_string(image.virtual_size_bytes()) + " bytes");
  }
  if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": copying the image was cancelled");
  const auto sink = [&](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
    if (offset > device.size_bytes() || data.size() > device.size_bytes() - offset) {
      return fail(Errc::corrupt, volume.name + ": the image has data behind its end");
    }
    IMAGECACHE_CHECK(device.write(offset, data));
    base::crash_point("copy.half");
    return {};
  };
  auto copied = image.for_each_data(sink, std::move(stop));
  if (copied) copied = device.sync();
  if (!copied) return std::unexpected(explain(volume, std::move(copied).error()));
  return {};
}

Result<std::unique_ptr<VolumeReader>> LvmDriver::read_volume(const VolumeId& volume) {
  IMAGECACHE_CHECK(find(volume));
  IMAGECACHE_CHECK(open(volume, Device::Use::look));  // it may have to be activated
  // Through the page cache, which the volume's other users on this host share: who reads sees what was written.
  base::Fd fd(::open(group_.device_path(volume.name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return base::fail_errno(volume.name, errno);
  return base::read_volume_file(std::move(fd), volume.name, false);
}

Result<std::optional<std::uint64_t>> LvmDriver::used_bytes(const VolumeId& volume) {
  IMAGECACHE_TRY(const LogicalVolume found, find(volume));
  if (!found.is_thin()) return found.size_bytes;
  return static_cast<std::uint64_t>(static_cast<double>(found.size_bytes) * found.data_percent / 100);
}

Error LvmDriver::explain(const VolumeId& volume, Error error) {
  if (!thin_ || error.code != Errc::internal) return error;
  const auto pool = group_.find(group_.pool_name());
  if (!pool || !pool->pool_is_full()) return error;
  return {Errc::no_space, volume.name + ": thin pool " + group_.pool_name() + " is full (" + error.message + ")"};
}

Result<void> LvmDriver::create_cloned_volume(const CloneSpec& clone) {
  IMAGECACHE_CHECK(check_name(clone.source));
  IMAGECACHE_CHECK(check_name(clone.target));
  return thin_ ? clone_thin(clone) : clone_thick(clone);
}

Result<void> LvmDriver::clone_thin(const CloneSpec& clone) {
  if (auto cloned = group_.clone_thin(clone.source.name, clone.target.name); !cloned) {
    Error error = std::move(cloned).error();
    if (error.code == Errc::internal) {
      // Made before lvm_type was thin: of no use any more, so that the service makes another.
      const auto source = group_.find(clone.source.name);
      if (source && !source->is_thin()) error = {Errc::corrupt, clone.source.name + " is no thin volume"};
    }
    return std::unexpected(about(clone.target, "cannot clone " + clone.source.name, std::move(error)));
  }
  base::crash_point("clone.cloned");
  const auto grown = [&]() -> Result<void> {
    // The device says what the source's size is, with no command for it.
    IMAGECACHE_TRY(const Device device, open(clone.target, Device::Use::look));
    const std::uint64_t wanted_bytes = whole_extents(clone.size_bytes);
    if (device.size_bytes() > wanted_bytes) return source_has_grown(clone, device.size_bytes());
    if (device.size_bytes() == wanted_bytes) return {};
    auto extended = group_.extend(clone.target.name, clone.size_bytes);
    if (!extended) return std::unexpected(about(clone.target, "cannot extend", std::move(extended).error()));
    return {};
  }();
  if (!grown) static_cast<void>(group_.remove(clone.target.name));
  return grown;
}

Result<void> LvmDriver::clone_thick(const CloneSpec& clone) {
  // Sources are image-volumes, which nobody writes to, so there is no need of the snapshot that Cinder copies from.
  IMAGECACHE_TRY(const Device source, open(clone.source, Device::Use::read));
  if (source.size_bytes() > whole_extents(clone.size_bytes)) return source_has_grown(clone, source.size_bytes());
  if (auto made = group_.create_thick(clone.target.name, clone.size_bytes); !made) {
    return std::unexpected(about(clone.target, "cannot create", std::move(made).error()));
  }
  base::crash_point("clone.created");
  bool may_remove = true;
  const auto copied = [&]() -> Result<void> {
    IMAGECACHE_TRY(const Device target, open(clone.target, Device::Use::write));
    std::uint64_t copied_to_bytes = 0;
    auto all = target.copy_from(source, clone.stop, copied_to_bytes);
    base::crash_point("clone.copied");
    if (all) all = target.sync();
    if (all) return {};
    // What was copied must not be left in the group's free extents, where whoever makes the next volume reads it.
    if (auto cleared = clear(target, copied_to_bytes); !cleared) {
      base::log::warning("lvm", nullptr, "{}: half a copy is left: {}", clone.target.name, cleared.error().message);
      may_remove = false;
    }
    return all;
  }();
  if (!copied && may_remove) static_cast<void>(group_.remove(clone.target.name));
  return copied;
}

Result<void> LvmDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  auto found = find(volume);
  if (!found) return std::unexpected(about(volume, "cannot extend", std::move(found).error()));
  if (whole_extents(new_size_bytes) < found->size_bytes) {
    return fail(Errc::invalid_argument, volume.name + ": cannot shrink from " + std::to_string(found->size_bytes) +
                                            " to " + std::to_string(new_size_bytes) + " bytes");
  }
  Result<void> extended;
  if (!found->is_thin()) {
    extended = extend_thick(*found, new_size_bytes);
  } else if (found->size_bytes < whole_extents(new_size_bytes)) {
    extended = group_.extend(volume.name, new_size_bytes);
  }
  if (!extended) return std::unexpected(about(volume, "cannot extend", std::move(extended).error()));
  return {};
}

Result<void> LvmDriver::extend_thick(const LogicalVolume& volume, std::uint64_t new_size_bytes) {
  // What LVM adds holds what was there before. Were we to die between adding and zeroing, nobody would know that it has
  // to be zeroed still; so it is written on the volume first.
  const std::optional<std::uint64_t> before = zero_from(volume);
  const bool grows = volume.size_bytes < whole_extents(new_size_bytes);
  if (!before && !grows) return {};
  const std::uint64_t from = before.value_or(volume.size_bytes);
  const std::string tag = std::string(zero_from_tag) + std::to_string(from);
  if (!before) IMAGECACHE_CHECK(group_.add_tag(volume.name, tag));
  if (grows) {
    // As Cinder does: LVM extends an origin of snapshots only while it is inactive.
    if (volume.is_origin()) IMAGECACHE_CHECK(group_.deactivate(volume.name));
    auto extended = group_.extend(volume.name, new_size_bytes);
    if (volume.is_origin()) IMAGECACHE_CHECK(group_.activate(volume.name));
    IMAGECACHE_CHECK(extended);
  }
  base::crash_point("extend.extended");
  {
    IMAGECACHE_TRY(const Device device, open({volume.name}, Device::Use::write));
    IMAGECACHE_CHECK(device.zero(from, device.size_bytes()));
    IMAGECACHE_CHECK(device.sync());
  }
  return group_.remove_tag(volume.name, tag);
}

Result<void> LvmDriver::delete_volume(const VolumeId& volume) {
  auto found = find(volume);
  if (!found && found.error().code == Errc::not_found) return {};
  if (!found) return std::unexpected(about(volume, "cannot delete", std::move(found).error()));
  if (found->is_origin()) {
    return fail(Errc::conflict, volume.name + ": has snapshots, which would go with it; delete them first");
  }
  if (!found->is_thin()) {
    IMAGECACHE_TRY(const Device device, open(volume, Device::Use::write));
    IMAGECACHE_CHECK(clear(device, device.size_bytes()));
  }
  base::crash_point("delete.cleared");
  auto removed = group_.remove(volume.name);
  if (!removed) return std::unexpected(about(volume, "cannot delete", std::move(removed).error()));
  return {};
}

Result<void> LvmDriver::clear(const Device& device, std::uint64_t end_bytes) const {
  if (!options_.clear) return {};
  IMAGECACHE_CHECK(
      device.zero(0, options_.clear_size_bytes == 0 ? end_bytes : std::min(end_bytes, options_.clear_size_bytes)));
  return device.sync();
}

Result<ConnectionInfo> LvmDriver::initialize_connection(const VolumeId& volume) {
  // Whoever attaches must not see what was on the disk where the volume grew, nor have it zeroed under him later.
  IMAGECACHE_TRY(const LogicalVolume found, find(volume));
  if (zero_from(found)) IMAGECACHE_CHECK(extend_thick(found, found.size_bytes));
  // Activates it where it is not; whoever attaches needs that.
  IMAGECACHE_CHECK(open(volume, Device::Use::look));
  return ConnectionInfo{.driver_volume_type = "local", .data = {{"device_path", group_.device_path(volume.name)}}};
}

}  // namespace imagecache::backends
