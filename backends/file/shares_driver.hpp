// A section with Cinder's NfsDriver: raw files on one or several shares, a FileDriver on each.
//
// Called by whoever holds it as a Driver, on any thread, several at once. A volume is on exactly one share. A new one
// goes to the share that Cinder's driver would take; a clone to its source's, since only there it can share blocks. If
// that one has no room for the clone, another gets a replica of the source, once, and clones are made there too.
// What must always be true: while a share is away nobody is told that a volume is not there, as it may be on that one;
// and nothing is written where no share is mounted (share.hpp).
#pragma once

#include <atomic>
#include <ctime>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backends/file/share.hpp"

namespace imagecache::backends {

class SharesDriver final : public Driver {
 public:
  /// nas_secure_file_permissions and nas_secure_file_operations.
  enum class Secure { no, yes, automatic };
  struct Options {
    std::string section;
    std::filesystem::path shares_config;     ///< read again when it changes; not used if `nas` is set
    std::optional<ShareAddress> nas;         ///< nas_host:nas_share_path
    std::filesystem::path mount_point_base;  ///< absolute
    Secure secure_permissions = Secure::automatic;
    Secure secure_operations = Secure::automatic;
    double max_over_subscription_ratio = 20;  ///< at least 1
    unsigned reserved_percentage = 0;
    std::string name_before = "volume-";  ///< volume_name_template around its "%s"
    std::string name_behind = {};
    unsigned max_concurrency = 16;
    unsigned reflink_max_extents = 128;
  };

  explicit SharesDriver(Options options) : options_(std::move(options)) {}

  Capabilities capabilities() const override;
  /// Succeeds also where no share is mounted yet: cinder-volume, which mounts them, may start after us.
  Result<void> check_for_setup_error() override;
  Result<VolumeStats> get_volume_stats() override;
  /// Those whose names volume_name_template can have made, on all shares; fails while a share is away.
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  /// Errc::conflict while Cinder keeps snapshots of it; so does delete_volume().
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  /// As Cinder's driver: {"nfs", {export, name, format, options}}.
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) override;
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) override;
  Result<ModelUpdate> model_update(const VolumeId& volume) override;

 private:
  class Claim;
  using ShareList = std::vector<std::shared_ptr<Share>>;
  struct Mounted {
    std::shared_ptr<Share> share;
    std::shared_ptr<FileDriver> files;
  };
  struct MountedShares {
    std::vector<Mounted> all;
    std::optional<Error> away;  ///< why there are not more
  };
  struct Found {
    Mounted on;
    std::uint64_t size_bytes = 0;
  };

  /// All that are configured now.
  Result<ShareList> shares();
  /// Adds what the file names and was not there before.
  Result<void> read_shares_file();
  Result<std::shared_ptr<Share>> make_share(ShareAddress address);
  /// Fails only if there is none at all.
  Result<MountedShares> mounted();
  /// Which share has it. Nullopt: none of those that could be asked; one that could not is away from then on.
  static Result<std::optional<Found>> look_for(const VolumeId& volume, MountedShares& where);
  /// Errc::not_found only if all shares could be asked and none has it.
  static Result<Found> find(const VolumeId& volume, MountedShares& where);
  Result<Found> find(const VolumeId& volume);
  /// The same, if no snapshot of it stands in the way of `what`.
  Result<Found> find_without_snapshots(const VolumeId& volume, std::string_view what);
  /// Errc::no_space if Cinder's driver would put nothing of that size there.
  Result<void> check_room(const Mounted& on, std::uint64_t size_bytes) const;
  std::optional<std::string> refusal(const Share::Room& room, std::uint64_t size_bytes) const;
  /// Among those with room the one of which the least is promised.
  Result<Mounted> choose(const MountedShares& from, std::uint64_t size_bytes, const VolumeId& volume) const;
  /// A clone on another share than the source's, from a replica of the source there, made if need be.
  Result<void> clone_elsewhere(const CloneSpec& clone, const Found& source, const MountedShares& where);
  Result<void> remove_replicas(const VolumeId& source);
  /// Those whose source is on no share any more.
  void remove_orphaned_replicas();
  bool is_secure(Secure setting);

  const Options options_;
  std::atomic<CloneSupport> clone_support_ = CloneSupport::full_copy;
  std::atomic<bool> clones_are_atomic_ = true;

  std::mutex mutex_;
  // Protected by mutex_.
  ShareList shares_;
  // Of what was read last: when it was changed, and its size.
  std::optional<std::pair<std::filesystem::file_time_type, std::uint64_t>> shares_file_state_;
  std::set<std::string> being_made_;

  std::mutex replica_mutex_;  // held while one is copied: one at a time
};

/// Options: those of Cinder's NfsDriver, and nfs_max_concurrency (default 16). Errc::unsupported if they make the
/// section one that is to be left to Cinder.
Result<std::unique_ptr<Driver>> make_nfs_driver(const BackendOptions& options);

}  // namespace imagecache::backends
