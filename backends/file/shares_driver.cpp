#include "backends/file/shares_driver.hpp"

#include <algorithm>
#include <utility>

#include "backends/file/snapshot_info.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

std::unexpected<Error> is_taken(const VolumeId& volume) {
  return fail(Errc::already_exists, volume.name + ": there is a file of this name already");
}

}  // namespace

/// That one call makes a volume of that name: over several shares no file system sees to it.
class SharesDriver::Claim {
 public:
  static Result<Claim> take(SharesDriver& driver, const VolumeId& volume) {
    const std::lock_guard lock(driver.mutex_);
    if (!driver.being_made_.insert(volume.name).second) return is_taken(volume);
    return Claim(driver, volume.name);
  }
  Claim(Claim&& other) noexcept : driver_(std::exchange(other.driver_, nullptr)), name_(std::move(other.name_)) {}
  Claim& operator=(Claim&&) = delete;
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    if (driver_ == nullptr) return;
    const std::lock_guard lock(driver_->mutex_);
    driver_->being_made_.erase(name_);
  }

 private:
  Claim(SharesDriver& driver, std::string name) : driver_(&driver), name_(std::move(name)) {}
  SharesDriver* driver_;
  std::string name_;
};

Capabilities SharesDriver::capabilities() const {
  return {.clone = clone_support_,
          .max_concurrency = options_.max_concurrency,
          .has_model_update = true,
          .atomic_clones = clones_are_atomic_};
}

Result<void> SharesDriver::check_for_setup_error() {
  // What is away has been said in the log, and is looked for again at each call.
  remove_orphaned_replicas();
  return {};
}

Result<std::optional<SharesDriver::Found>> SharesDriver::look_for(const VolumeId& volume, MountedShares& where) {
  for (const Mounted& on : where.all) {
    const auto size_bytes = on.files->find(volume);
    if (size_bytes && *size_bytes) return Found{.on = on, .size_bytes = **size_bytes};
    if (size_bytes) continue;
    if (size_bytes.error().code == Errc::invalid_argument) return std::unexpected(size_bytes.error());
    where.away = Error{Errc::unavailable, on.share->label() + ": " + size_bytes.error().message};
  }
  return std::nullopt;
}

Result<SharesDriver::Found> SharesDriver::find(const VolumeId& volume, MountedShares& where) {
  IMAGECACHE_TRY(std::optional<Found> found, look_for(volume, where));
  if (found) return std::move(*found);
  if (where.away) {
    return fail(Errc::unavailable, volume.name + ": on none of the shares that are there, and " + where.away->message);
  }
  return fail(Errc::not_found, volume.name + ": no such volume");
}

Result<SharesDriver::Found> SharesDriver::find(const VolumeId& volume) {
  IMAGECACHE_TRY(MountedShares where, mounted());
  return find(volume, where);
}

Result<SharesDriver::Found> SharesDriver::find_without_snapshots(const VolumeId& volume, std::string_view what) {
  IMAGECACHE_TRY(Found found, find(volume));
  IMAGECACHE_TRY(const auto info, found.on.files->read_beside(snapshot_info_name(volume)));
  IMAGECACHE_TRY(const std::string active, active_file(volume, info));
  if (active == volume.name) return found;
  return fail(Errc::conflict, volume.name + ": Cinder keeps snapshots of it (" + snapshot_info_name(volume) + "), so " +
                                  std::string(what) + " it through Cinder, or delete the snapshots there first");
}

Result<std::vector<VolumeId>> SharesDriver::list_volumes() {
  IMAGECACHE_TRY(const MountedShares where, mounted());
  if (where.away) return std::unexpected(*where.away);
  std::vector<VolumeId> volumes;
  for (const Mounted& on : where.all) {
    IMAGECACHE_TRY(std::vector<VolumeId> there, on.files->list_volumes());
    for (VolumeId& volume : there) {
      const std::string_view name = volume.name;
      if (name.size() <= options_.name_before.size() + options_.name_behind.size()) continue;
      if (!name.starts_with(options_.name_before) || !name.ends_with(options_.name_behind)) continue;
      // Cinder's files beside a volume are "<volume>.<snapshot id>" and "<volume>.info"; no id has a dot.
      const auto id = name.substr(options_.name_before.size(),
                                  name.size() - options_.name_before.size() - options_.name_behind.size());
      if (id.find('.') == std::string_view::npos) volumes.push_back(std::move(volume));
    }
  }
  return volumes;
}

Result<void> SharesDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  IMAGECACHE_TRY(const Claim claim, Claim::take(*this, volume));
  IMAGECACHE_TRY(MountedShares where, mounted());
  IMAGECACHE_TRY(const std::optional<Found> known, look_for(volume, where));
  if (known) return is_taken(volume);
  IMAGECACHE_TRY(const Mounted on, choose(where, size_bytes, volume));
  IMAGECACHE_CHECK(on.files->create_volume(volume, size_bytes));
  on.share->promise(static_cast<std::int64_t>(size_bytes));
  return {};
}

Result<void> SharesDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  IMAGECACHE_TRY(const Found found, find(volume));
  return found.on.files->copy_image_to_volume(image, volume, stop);
}

Result<void> SharesDriver::create_cloned_volume(const CloneSpec& clone) {
  IMAGECACHE_TRY(const Claim claim, Claim::take(*this, clone.target));
  IMAGECACHE_TRY(MountedShares where, mounted());
  IMAGECACHE_TRY(const Found source, find(clone.source, where));
  IMAGECACHE_TRY(const std::optional<Found> known, look_for(clone.target, where));
  if (known) return is_taken(clone.target);
  Result<void> made = check_room(source.on, clone.size_bytes);
  if (made) made = source.on.files->create_cloned_volume(clone);
  if (made) source.on.share->promise(static_cast<std::int64_t>(clone.size_bytes));
  if (made || made.error().code != Errc::no_space || where.all.size() < 2) return made;
  auto elsewhere = clone_elsewhere(clone, source, where);
  if (!elsewhere && elsewhere.error().code == Errc::no_space) {
    elsewhere.error().message = made.error().message + "; " + elsewhere.error().message;
  }
  return elsewhere;
}

Result<void> SharesDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  IMAGECACHE_TRY(const Found found, find_without_snapshots(volume, "extend"));
  const std::uint64_t growth = new_size_bytes - std::min(new_size_bytes, found.size_bytes);
  if (growth != 0) IMAGECACHE_CHECK(check_room(found.on, growth));
  IMAGECACHE_CHECK(found.on.files->extend_volume(volume, new_size_bytes));
  found.on.share->promise(static_cast<std::int64_t>(growth));
  return {};
}

Result<void> SharesDriver::delete_volume(const VolumeId& volume) {
  const Result<Found> found = find_without_snapshots(volume, "delete");
  if (!found) {
    if (found.error().code != Errc::not_found) return std::unexpected(found.error());
    // Whoever unlinked it may have been stopped before that was on disk.
    IMAGECACHE_TRY(const MountedShares where, mounted());
    for (const Mounted& on : where.all) IMAGECACHE_CHECK(on.files->delete_volume(volume));
    return remove_replicas(volume);
  }
  // Before the volume: if this ends half way, it is still there to be deleted again.
  IMAGECACHE_CHECK(remove_replicas(volume));
  const VolumeId info{snapshot_info_name(volume)};
  if (found->on.files->has_file(info.name)) IMAGECACHE_CHECK(found->on.files->delete_volume(info));
  IMAGECACHE_CHECK(found->on.files->delete_volume(volume));
  found->on.share->promise(-static_cast<std::int64_t>(found->size_bytes));
  return {};
}

Result<ConnectionInfo> SharesDriver::initialize_connection(const VolumeId& volume) {
  IMAGECACHE_TRY(const Found found, find(volume));
  IMAGECACHE_TRY(const auto info, found.on.files->read_beside(snapshot_info_name(volume)));
  IMAGECACHE_TRY(const std::string active, active_file(volume, info));
  const ShareAddress& share = found.on.share->address();
  ConnectionInfo connection{
      .driver_volume_type = "nfs",
      .data = {{"export", share.address}, {"name", active}, {"format", active == volume.name ? "raw" : "qcow2"}}};
  if (share.options) connection.data.emplace("options", *share.options);
  return connection;
}

Result<std::unique_ptr<VolumeReader>> SharesDriver::read_volume(const VolumeId& volume) {
  // With snapshots of Cinder's the volume's bytes are in another file, in another format.
  IMAGECACHE_TRY(const Found found, find_without_snapshots(volume, "read"));
  return found.on.files->read_volume(volume);
}

Result<std::optional<std::uint64_t>> SharesDriver::used_bytes(const VolumeId& volume) {
  IMAGECACHE_TRY(const Found found, find(volume));
  return found.on.files->used_bytes(volume);
}

Result<ModelUpdate> SharesDriver::model_update(const VolumeId& volume) {
  IMAGECACHE_TRY(const Found found, find(volume));
  return ModelUpdate{.provider_location = found.on.share->address().address, .format = "raw"};
}

}  // namespace imagecache::backends
