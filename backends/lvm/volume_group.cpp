#include "backends/lvm/volume_group.hpp"

#include <algorithm>
#include <array>

#include "base/child.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

// Some 300 bytes a volume: room for more of them than LVM takes in one group.
constexpr std::size_t output_limit_bytes = 64 * base::mib;

std::string in_bytes(std::uint64_t size_bytes) {
  return std::to_string(size_bytes) + "b";
}

/// Gives the turn back when it goes.
class Turn {
 public:
  explicit Turn(std::shared_ptr<std::binary_semaphore> turn) : turn_(std::move(turn)) {}
  ~Turn() { turn_->release(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const std::shared_ptr<std::binary_semaphore> turn_;
};

std::vector<std::string> report(const char* command, std::string_view columns, std::string what) {
  return {command, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", std::string(columns), std::move(what)};
}

}  // namespace

Result<std::string> VolumeGroup::run(std::vector<std::string> command) {
  if (!turn_->try_acquire_for(options_.timeout)) {
    return fail(Errc::busy, command.front() + ": other commands of volume group " + options_.name +
                                " have taken all of its " + std::to_string(options_.timeout.count()) + " s; try later");
  }
  base::ChildSpec spec;
  spec.held = std::make_shared<Turn>(turn_);
  const std::string name = command.front();
  spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  if (!options_.system_dir.empty()) spec.environment.push_back("LVM_SYSTEM_DIR=" + options_.system_dir);
  if (!options_.root_helper.empty()) {
    // A helper drops the environment. These four may bring their own by what Cinder's rootwrap filters allow
    // (rootwrap.d/volume.filters); for the others there is nothing that needs one.
    constexpr std::array<std::string_view, 4> with_environment = {"lvs", "vgs", "lvcreate", "lvextend"};
    if (std::ranges::find(with_environment, name) != with_environment.end()) {
      std::vector<std::string> settings = {"env", "LC_ALL=C"};
      if (!options_.system_dir.empty()) settings.push_back("LVM_SYSTEM_DIR=" + options_.system_dir);
      command.insert(command.begin(), settings.begin(), settings.end());
    }
    command.insert(command.begin(), options_.root_helper.begin(), options_.root_helper.end());
  }
  spec.program = command.front();
  spec.arguments.assign(std::next(command.begin()), command.end());
  spec.output_limit_bytes = output_limit_bytes;
  spec.timeout = options_.timeout;
  spec.end = base::ChildEnd::ask;
  spec.ask_grace = options_.end_grace;
  spec.may_gain_privileges = !options_.root_helper.empty();

  IMAGECACHE_TRY(base::ChildResult child, base::run_child(spec, {}));
  if (child.exit_status == 0 && child.signal == 0) {
    if (!child.errors.empty()) base::log::debug("lvm", nullptr, "{}: {}", name, one_line(child.errors));
    return std::move(child.output);
  }
  if (child.signal != 0) {
    return fail(Errc::internal,
                name + ": ended by signal " + std::to_string(child.signal) + "; " + one_line(child.errors));
  }
  return fail(errc_of_lvm(child.errors), name + ": " + one_line(child.errors));
}

Result<VolumeGroupSpace> VolumeGroup::space() {
  IMAGECACHE_TRY(const std::string output, run(report("vgs", vgs_columns, options_.name)));
  return parse_vgs(output);
}

Result<std::vector<LogicalVolume>> VolumeGroup::list() {
  IMAGECACHE_TRY(const std::string output, run(report("lvs", lvs_columns, options_.name)));
  return parse_lvs(output);
}

Result<LogicalVolume> VolumeGroup::find(const std::string& volume) {
  IMAGECACHE_TRY(const std::string output, run(report("lvs", lvs_columns, path(volume))));
  IMAGECACHE_TRY(std::vector<LogicalVolume> found, parse_lvs(output));
  if (found.size() != 1) return fail(Errc::not_found, path(volume) + ": no such logical volume");
  return std::move(found.front());
}

Result<void> VolumeGroup::create_thin_pool(std::uint64_t size_bytes) {
  IMAGECACHE_CHECK(run({"lvcreate", "--yes", "-T", "-L", in_bytes(size_bytes), path(pool_name())}));
  return {};
}

Result<void> VolumeGroup::create_thin(const std::string& volume, std::uint64_t size_bytes) {
  IMAGECACHE_CHECK(run({"lvcreate", "--yes", "-T", "-V", in_bytes(size_bytes), "-n", volume, path(pool_name())}));
  return {};
}

Result<void> VolumeGroup::create_thick(const std::string& volume, std::uint64_t size_bytes) {
  // The caller writes over all of it. All the same LVM wipes signatures first, by --yes unasked: udev would look at
  // those of a volume that was there before, and have them mounted or assembled.
  IMAGECACHE_CHECK(run({"lvcreate", "--yes", "-n", volume, "-L", in_bytes(size_bytes), options_.name}));
  return {};
}

Result<void> VolumeGroup::clone_thin(const std::string& source, const std::string& target) {
  // -k n: without the flag that keeps snapshots from being activated, which Cinder takes away in a second command.
  IMAGECACHE_CHECK(run({"lvcreate", "--yes", "-k", "n", "-a", "y", "--name", target, "--snapshot", path(source)}));
  return {};
}

Result<void> VolumeGroup::extend(const std::string& volume, std::uint64_t new_size_bytes) {
  IMAGECACHE_CHECK(run({"lvextend", "-L", in_bytes(new_size_bytes), path(volume)}));
  return {};
}

Result<void> VolumeGroup::activate(const std::string& volume) {
  IMAGECACHE_CHECK(run({"lvchange", "-a", "y", "--yes", "-K", path(volume)}));
  return {};
}

Result<void> VolumeGroup::deactivate(const std::string& volume) {
  IMAGECACHE_CHECK(run({"lvchange", "-a", "n", path(volume)}));
  return {};
}

Result<void> VolumeGroup::add_tag(const std::string& volume, const std::string& tag) {
  IMAGECACHE_CHECK(run({"lvchange", "--addtag", tag, path(volume)}));
  return {};
}

Result<void> VolumeGroup::remove_tag(const std::string& volume, const std::string& tag) {
  IMAGECACHE_CHECK(run({"lvchange", "--deltag", tag, path(volume)}));
  return {};
}

Result<void> VolumeGroup::remove(const std::string& volume) {
  auto removed = run({"lvremove", "--config", "activation { retry_deactivation = 1 }", "-f", path(volume)});
  if (!removed && removed.error().code != Errc::not_found && removed.error().code != Errc::forbidden &&
      removed.error().code != Errc::unavailable) {
    // As Cinder does: whoever looked at the device just now (udev, mostly) is waited for, and what the first try left
    // suspended must not hold up the second.
    static_cast<void>(
        base::run_child({.program = "udevadm", .arguments = {"settle"}, .timeout = options_.timeout}, {}));
    removed =
        run({"lvremove", "--config", "activation { retry_deactivation = 1 } devices { ignore_suspended_devices = 1 }",
             "-f", path(volume)});
  }
  if (!removed && removed.error().code == Errc::not_found) {
    // A root helper may drop LVM_SYSTEM_DIR here, but not for `lvs`: the two need not see the same disks.
    const auto there = find(volume);
    if (!there && there.error().code == Errc::not_found) return {};
  }
  IMAGECACHE_CHECK(removed);
  return {};
}

}  // namespace imagecache::backends
