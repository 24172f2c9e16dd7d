// `volume_driver = lvm`, and Cinder's LVMVolumeDriver: volumes as logical volumes of one volume group of this host.
// Thin: a clone is a snapshot in the group's thin pool and takes no space. Thick: it is a copy. README.md says what a
// finished volume looks like and what the service must be allowed to do.
#pragma once

#include <string>

#include "backends/lvm/device.hpp"
#include "backends/lvm/volume_group.hpp"
#include "imagecache/driver.hpp"

namespace imagecache::backends {

class LvmDriver final : public Driver {
 public:
  enum class Type { thick, thin };

  struct Options {
    std::string section;  ///< for messages
    VolumeGroup::Options group;
    Type type = Type::thin;              ///< lvm_type; `auto` is thin
    bool clear = true;                   ///< volume_clear = zero: a thick volume is zeroed before it is removed
    std::uint64_t clear_size_bytes = 0;  ///< volume_clear_size: so much of its beginning; 0: all
    unsigned max_concurrency = 8;        ///< lvm_max_concurrency
    std::string name_before = "volume-", name_behind;  ///< volume_name_template: what is around the id
  };

  explicit LvmDriver(Options options)
      : options_(std::move(options)), group_(options_.group), thin_(options_.type == Type::thin) {}

  Capabilities capabilities() const override;
  /// Makes the thin pool if there is none, as Cinder's driver does. Errc::unsupported where this host or this user
  /// cannot run LVM, or the pool does not zero what is new in it.
  Result<void> check_for_setup_error() override;
  Result<VolumeStats> get_volume_stats() override;
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) override;
  /// Of a thin volume what is mapped, which it may share with others; of a thick one all.
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) override;

 private:
  /// LVM rounds sizes up so.
  std::uint64_t whole_extents(std::uint64_t size_bytes) const {
    return (size_bytes + extent_bytes_ - 1) / extent_bytes_ * extent_bytes_;
  }
  bool is_name(const std::string& name) const;
  Result<void> check_name(const VolumeId& volume) const;
  bool is_volume(const LogicalVolume& volume) const;
  /// Errc::conflict if what has the name is none of ours to touch.
  Result<LogicalVolume> find(const VolumeId& volume);
  /// The volume's device, activated if it is not there. Errc::not_found if there is no such volume.
  Result<Device> open(const VolumeId& volume, Device::Use use);
  /// Why writing to `volume` failed: a full pool shows as an input/output error where data waited in memory.
  Error explain(const VolumeId& volume, Error error);
  Result<void> clone_thin(const CloneSpec& clone);
  Result<void> clone_thick(const CloneSpec& clone);
  /// Zeroes what came to a thick volume from `from` on, also if that was begun before and cut short.
  Result<void> extend_thick(const LogicalVolume& volume, std::uint64_t new_size_bytes);
  /// As volume_clear says, of a thick volume's [0, end_bytes).
  Result<void> clear(const Device& device, std::uint64_t end_bytes) const;

  const Options options_;
  VolumeGroup group_;
  bool thin_ = false;
  std::uint64_t extent_bytes_ = 1;  // settled by check_for_setup_error, which comes before all else
};

/// Cinder's options of an LVM section, as far as they bear on what is done here, and ours; see README.md.
Result<std::unique_ptr<Driver>> make_lvm_driver(const BackendOptions& options);

}  // namespace imagecache::backends
