#include "catalog/quota.hpp"

#include <fmt/format.h>

#include "base/try.hpp"

namespace imagecache::catalog {
namespace {

bool exceeds(std::int64_t limit, std::uint64_t used, std::uint64_t more) {
  return limit >= 0 && used + more > static_cast<std::uint64_t>(limit);
}

}  // namespace

const std::set<std::string>& common_resources() {
  static const std::set<std::string> resources = {"volumes",          "gigabytes", "snapshots",           "backups",
                                                  "backup_gigabytes", "groups",    "per_volume_gigabytes"};
  return resources;
}

std::map<std::string, std::int64_t> class_limits(Connection& connection, const QuotaDefaults& defaults,
                                                 const std::string& name) {
  std::map<std::string, std::int64_t> limits = defaults;
  auto rows = connection.query("SELECT resource, hard_limit FROM quota_classes WHERE class = ?1");
  rows.with(name);
  while (rows.step()) limits[rows.text(0)] = rows.integer(1);
  return limits;
}

std::set<std::string> resources_of_type(const std::string& volume_type) {
  return {"volumes_" + volume_type, "gigabytes_" + volume_type, "snapshots_" + volume_type};
}

ProjectQuota::ProjectQuota(Connection& connection, const QuotaDefaults& defaults, const std::string& project_id)
    : defaults_(class_limits(connection, defaults, "default")) {
  auto limits = connection.query("SELECT resource, hard_limit FROM quotas WHERE project_id = ?1");
  limits.with(project_id);
  while (limits.step()) limits_[limits.text(0)] = limits.integer(1);

  auto usage = connection.query("SELECT volume_type, volumes, gigabytes FROM volume_usage WHERE project_id = ?1");
  usage.with(project_id);
  while (usage.step()) {
    const Usage of_type{usage.natural(1), usage.natural(2)};
    const auto type = usage.text(0);
    usage_by_type_[type] = of_type;
    total_.volumes += of_type.volumes;
    total_.gigabytes += of_type.gigabytes;
    if (!type.empty()) types_.insert(type);
  }

  auto known = connection.query("SELECT name FROM volume_types");
  while (known.step()) types_.insert(known.text(0));
}

std::int64_t ProjectQuota::limit(const std::string& resource) const {
  if (const auto own = limits_.find(resource); own != limits_.end()) return own->second;
  const auto common = defaults_.find(resource);
  return common == defaults_.end() ? -1 : common->second;
}

Result<void> ProjectQuota::check_volume_size(std::uint64_t size_gb) const {
  const auto largest = limit("per_volume_gigabytes");
  if (!exceeds(largest, 0, size_gb)) return {};
  return fail(Errc::quota_exceeded,
              fmt::format("VolumeSizeExceedsLimit: Requested volume size {}G is larger than maximum allowed limit {}G.",
                          size_gb, largest));
}

ProjectQuota::Usage ProjectQuota::usage_of_type(const std::string& volume_type) const {
  const auto found = usage_by_type_.find(volume_type);
  return found == usage_by_type_.end() ? Usage{} : found->second;
}

Result<void> ProjectQuota::check_space(const std::string& resource, std::uint64_t used, std::uint64_t more) const {
  if (!exceeds(limit(resource), used, more)) return {};
  return fail(Errc::quota_exceeded,
              fmt::format("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {} quota. "
                          "Requested {}G, quota is {}G and {}G has been consumed.",
                          resource, more, limit(resource), used));
}

Result<void> ProjectQuota::check_number(const std::string& resource, std::uint64_t used, std::uint64_t more) const {
  if (more == 0 || !exceeds(limit(resource), used, more)) return {};
  return fail(Errc::quota_exceeded,
              fmt::format("VolumeLimitExceeded: Maximum number of volumes allowed ({}) exceeded for quota '{}'.",
                          limit(resource), resource));
}

Result<void> ProjectQuota::check_growth(const std::string& volume_type, std::uint64_t volumes,
                                        std::uint64_t gigabytes) const {
  const Usage of_type = usage_of_type(volume_type);
  // Cinder reports space before number, and the whole before the type.
  IMAGECACHE_CHECK(check_space("gigabytes", total_.gigabytes, gigabytes));
  if (!volume_type.empty()) IMAGECACHE_CHECK(check_space("gigabytes_" + volume_type, of_type.gigabytes, gigabytes));
  IMAGECACHE_CHECK(check_number("volumes", total_.volumes, volumes));
  if (!volume_type.empty()) return check_number("volumes_" + volume_type, of_type.volumes, volumes);
  return {};
}

Result<void> ProjectQuota::check_retype(const std::string& volume_type, std::uint64_t size_gb) const {
  const Usage of_type = usage_of_type(volume_type);
  IMAGECACHE_CHECK(check_space("gigabytes_" + volume_type, of_type.gigabytes, size_gb));
  return check_number("volumes_" + volume_type, of_type.volumes, 1);
}

std::map<std::string, QuotaUsage> ProjectQuota::all() const {
  std::map<std::string, QuotaUsage> resources;
  for (const auto& resource : common_resources()) resources[resource].limit = limit(resource);
  resources["volumes"].in_use = total_.volumes;
  resources["gigabytes"].in_use = total_.gigabytes;
  for (const auto& type : types_) {
    for (const auto& resource : resources_of_type(type)) resources[resource].limit = limit(resource);
    if (const auto used = usage_by_type_.find(type); used != usage_by_type_.end()) {
      resources["volumes_" + type].in_use = used->second.volumes;
      resources["gigabytes_" + type].in_use = used->second.gigabytes;
    }
  }
  return resources;
}

}  // namespace imagecache::catalog
