// SharesDriver's shares: which there are, which are mounted, which has room.
#include <fmt/format.h>

#include <algorithm>

#include "backends/file/shares_driver.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

constexpr mode_t secure_mode = 0660;
constexpr mode_t open_mode = 0666;
// Made by Cinder's driver on the first share when an installation began with secure files.
constexpr const char* secure_indicator = ".cinderSecureEnvIndicator";

}  // namespace

Result<std::shared_ptr<Share>> SharesDriver::make_share(ShareAddress address) {
  IMAGECACHE_TRY(auto mount_point, mount_point_of(options_.mount_point_base, address.address));
  FileDriver::Options files{.label = "[" + options_.section + "] share " + address.address,
                            .directory = std::move(mount_point),
                            .max_concurrency = options_.max_concurrency,
                            .reflink_max_extents = options_.reflink_max_extents,
                            .access = [this] {
                              const bool secure = is_secure(options_.secure_permissions);
                              return FileDriver::Access{.mode = secure ? secure_mode : open_mode,
                                                        .owned_as_directory = is_secure(options_.secure_operations)};
                            }};
  return std::make_shared<Share>(std::move(address), std::move(files));
}

Result<void> SharesDriver::read_shares_file() {
  const std::string label = "[" + options_.section + "] nfs_shares_config = " + options_.shares_config.native();
  std::error_code problem;
  const auto time = std::filesystem::last_write_time(options_.shares_config, problem);
  const auto size = problem ? 0 : std::filesystem::file_size(options_.shares_config, problem);
  if (problem) {
    return fail(Errc::unavailable, label + ": " + problem.message() + "; name a share a line in it, as host:/export");
  }
  const std::pair state(time, size);
  if (shares_file_state_ == state) return {};
  auto text = base::read_small_file(options_.shares_config);
  if (!text) return fail(Errc::unavailable, label + ": " + text.error().message);
  for (ShareAddress& address : parse_shares(*text)) {
    const auto same = [&](const auto& known) { return known->address().address == address.address; };
    if (std::ranges::any_of(shares_, same)) continue;
    IMAGECACHE_TRY(auto share, make_share(std::move(address)));
    shares_.push_back(std::move(share));
  }
  if (shares_.empty()) return fail(Errc::unavailable, label + ": names no share; write one a line, as host:/export");
  shares_file_state_ = state;
  return {};
}

Result<SharesDriver::ShareList> SharesDriver::shares() {
  const std::lock_guard lock(mutex_);
  if (!options_.nas) {
    auto read = read_shares_file();
    if (!read && shares_.empty()) return std::unexpected(std::move(read).error());
  } else if (shares_.empty()) {
    IMAGECACHE_TRY(auto share, make_share(*options_.nas));
    shares_.push_back(std::move(share));
  }
  return shares_;
}

Result<SharesDriver::MountedShares> SharesDriver::mounted() {
  IMAGECACHE_TRY(const ShareList all, shares());
  MountedShares found;
  for (const auto& share : all) {
    if (auto files = share->files()) {
      found.all.push_back({.share = share, .files = std::move(*files)});
    } else if (!found.away) {
      found.away = std::move(files).error();
    }
  }
  if (found.all.empty()) return std::unexpected(std::move(*found.away));
  const bool all_share = std::ranges::all_of(
      found.all, [](const Mounted& on) { return on.files->capabilities().clone == CloneSupport::copy_on_write; });
  clone_support_ = all_share ? CloneSupport::copy_on_write : CloneSupport::full_copy;
  clones_are_atomic_ =
      std::ranges::all_of(found.all, [](const Mounted& on) { return on.files->capabilities().atomic_clones; });
  return found;
}

bool SharesDriver::is_secure(Secure setting) {
  if (setting != Secure::automatic) return setting == Secure::yes;
  const auto where = mounted();
  return where && where->all.front().files->has_file(secure_indicator);
}

Result<VolumeStats> SharesDriver::get_volume_stats() {
  IMAGECACHE_TRY(const MountedShares where, mounted());
  VolumeStats sum;
  for (const Mounted& on : where.all) {
    IMAGECACHE_TRY(const VolumeStats stats, on.files->get_volume_stats());
    sum.total_bytes += stats.total_bytes;
    sum.free_bytes += stats.free_bytes;
  }
  return sum;
}

// Cinder's nfs.py, _is_share_eligible.
std::optional<std::string> SharesDriver::refusal(const Share::Room& room, std::uint64_t size_bytes) const {
  const auto total = static_cast<double>(room.total_bytes);
  const auto promised = static_cast<double>(room.promised_bytes);
  const double ratio = options_.max_over_subscription_ratio;
  const double used = (total - static_cast<double>(room.available_bytes)) / total;
  if (!(used <= (100.0 - options_.reserved_percentage) / 100.0)) {
    return fmt::format("{:.0f} % of it are used, and reserved_percentage = {}", used * 100,
                       options_.reserved_percentage);
  }
  if (std::max(0.0, total * ratio - promised) <= static_cast<double>(size_bytes) || promised / total >= ratio) {
    return fmt::format("of {} are {} promised already, and max_over_subscription_ratio = {:g}",
                       base::format_bytes(room.total_bytes), base::format_bytes(room.promised_bytes), ratio);
  }
  return std::nullopt;
}

Result<void> SharesDriver::check_room(const Mounted& on, std::uint64_t size_bytes) const {
  std::optional<std::string> why;
  // What it held a while ago may be gone by now.
  for (const bool anew : {false, true}) {
    IMAGECACHE_TRY(const Share::Room room, on.share->room(*on.files, anew));
    why = refusal(room, size_bytes);
    if (!why) return {};
  }
  return fail(Errc::no_space, on.share->label() + ": no room for " + base::format_bytes(size_bytes) + " more: " + *why);
}

Result<SharesDriver::Mounted> SharesDriver::choose(const MountedShares& from, std::uint64_t size_bytes,
                                                   const VolumeId& volume) const {
  const Mounted* best = nullptr;
  std::uint64_t least_promised = 0;
  std::string why;
  for (const Mounted& on : from.all) {
    if (auto fits = check_room(on, size_bytes); !fits) {
      why += (why.empty() ? "" : "; ") + fits.error().message;
      continue;
    }
    IMAGECACHE_TRY(const Share::Room room, on.share->room(*on.files, false));
    if (best != nullptr && room.promised_bytes >= least_promised) continue;
    best = &on;
    least_promised = room.promised_bytes;
  }
  if (best != nullptr) return *best;
  return fail(Errc::no_space, volume.name + ": " + why);
}

}  // namespace imagecache::backends
