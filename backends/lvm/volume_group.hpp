// One volume group, through LVM's own commands as child processes.
//
// One command of this group at a time, whoever asks: LVM's own lock on the group would make the others wait all the
// same, each as a process. Any thread; calls block for as long as the command runs, and for the turn before it, each at
// most Options::timeout. A command that does not end in time is asked to end and then left alone, never killed: in the
// middle it may have devices suspended. It keeps its turn until it has ended, or a volume that it makes at last would
// come after its own removal.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include "backends/lvm/report.hpp"
#include "imagecache/error.hpp"

namespace imagecache::backends {

class VolumeGroup {
 public:
  struct Options {
    std::string name = "cinder-volumes";
    std::string system_dir;                ///< for LVM_SYSTEM_DIR; empty: LVM's own
    std::vector<std::string> root_helper;  ///< words that go before each command, such as "sudo", "-n"; may be empty
    std::chrono::seconds timeout{300};
    std::chrono::milliseconds end_grace{10'000};  ///< for a command that is asked to end, before it is left to itself
  };

  explicit VolumeGroup(Options options) : options_(std::move(options)) {}

  const std::string& name() const { return options_.name; }
  /// "<group>-pool", the thin pool that Cinder's driver uses.
  std::string pool_name() const { return options_.name + "-pool"; }
  /// Where an active volume is.
  std::string device_path(const std::string& volume) const { return "/dev/" + options_.name + "/" + volume; }

  // Errors are Errc::not_found (the volume), unavailable (the group, or its disks, are not seen), already_exists,
  // no_space, conflict (in use), forbidden, timeout, busy (no turn in time), else internal; the message is what the
  // command said.
  Result<VolumeGroupSpace> space();
  /// Volumes, snapshots and pools, without LVM's internal ones.
  Result<std::vector<LogicalVolume>> list();
  Result<LogicalVolume> find(const std::string& volume);

  Result<void> create_thin_pool(std::uint64_t size_bytes);
  Result<void> create_thin(const std::string& volume, std::uint64_t size_bytes);
  /// Holds whatever was on the disk there.
  Result<void> create_thick(const std::string& volume, std::uint64_t size_bytes);
  /// A thin snapshot as a volume of its own: active, also after a restart of the host.
  Result<void> clone_thin(const std::string& source, const std::string& target);
  Result<void> extend(const std::string& volume, std::uint64_t new_size_bytes);
  Result<void> activate(const std::string& volume);
  Result<void> deactivate(const std::string& volume);
  Result<void> add_tag(const std::string& volume, const std::string& tag);
  Result<void> remove_tag(const std::string& volume, const std::string& tag);
  /// With its old snapshots, if it has any.
  Result<void> remove(const std::string& volume);

 private:
  /// Its standard output.
  Result<std::string> run(std::vector<std::string> command);
  std::string path(const std::string& volume) const { return options_.name + "/" + volume; }

  const Options options_;
  // Taken while a command runs; its holder may outlive this object.
  const std::shared_ptr<std::binary_semaphore> turn_ = std::make_shared<std::binary_semaphore>(1);
};

}  // namespace imagecache::backends
