#include "api/quota_view.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.hpp"

namespace imagecache::api {
namespace {

struct Resource {
  std::string_view name;
  std::int64_t limit;
};
constexpr std::array<Resource, 6> common = {{{"volumes", 10},
                                             {"per_volume_gigabytes", -1},
                                             {"snapshots", 10},
                                             {"gigabytes", 1000},
                                             {"backups", 10},
                                             {"backup_gigabytes", 1000}}};
constexpr Resource groups{"groups", 10};
constexpr std::int64_t max_limit = 2147483647;

catalog::QuotaUsage usage_of(const std::vector<NamedUsage>& quota, std::string_view resource) {
  const auto found = std::ranges::find(quota, resource, &NamedUsage::resource);
  return found == quota.end() ? catalog::QuotaUsage() : found->usage;
}

std::optional<std::int64_t> limit_of(const JsonIn& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    return number <= max_limit ? std::optional<std::int64_t>(static_cast<std::int64_t>(number)) : std::nullopt;
  }
  if (value.is_number_integer())
    return value.get<std::int64_t>() == -1 ? std::optional<std::int64_t>(-1) : std::nullopt;
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  if (text == "-1") return -1;
  const auto number = base::parse_unsigned(text);
  if (!number || *number > max_limit) return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

/// Keys that clients send along and that are no resources.
bool is_no_resource(std::string_view name, const JsonIn& value) {
  return name == "tenant_id" || name == "id" || name == "project_id" || name == "force" || name == "class_name" ||
         value.is_null();
}

std::unexpected<Error> no_limit(const std::string& name) {
  return fail(Errc::invalid_argument, "Invalid input for field/attribute " + name +
                                          ". The value must be a whole number from -1 to 2147483647.");
}

}  // namespace

std::vector<NamedUsage> complete_quota(const std::map<std::string, catalog::QuotaUsage>& rows,
                                       const std::vector<catalog::VolumeType>& types) {
  std::vector<NamedUsage> quota;
  const auto add = [&](std::string name, std::int64_t limit) {
    const auto found = rows.find(name);
    quota.push_back({std::move(name), found == rows.end() ? catalog::QuotaUsage{.limit = limit} : found->second});
  };
  for (const Resource& resource : common) add(std::string(resource.name), resource.limit);
  for (const catalog::VolumeType& type : types) {
    for (const char* kind : {"volumes_", "gigabytes_", "snapshots_"}) add(kind + type.name, -1);
  }
  // A backend's own type leaves the list when an operator makes types, but its volumes still count.
  for (const auto& [name, usage] : rows) {
    const bool of_type = name.starts_with("volumes_") || name.starts_with("gigabytes_");
    const bool listed = std::ranges::find(quota, name, &NamedUsage::resource) != quota.end();
    if (of_type && !listed && usage.in_use + usage.reserved > 0) quota.push_back({name, usage});
  }
  add(std::string(groups.name), groups.limit);
  return quota;
}

Json quota_view(const std::vector<NamedUsage>& quota, bool with_usage, const std::string& project_id) {
  Json view = Json::object();
  for (const auto& [resource, usage] : quota) {
    if (with_usage) {
      view[resource] = Json{{"limit", usage.limit}, {"in_use", usage.in_use}, {"reserved", usage.reserved}};
    } else {
      view[resource] = usage.limit;
    }
  }
  if (!project_id.empty()) view["id"] = project_id;
  return view;
}

Result<std::map<std::string, std::int64_t>> parse_limits(const JsonIn& object, const std::vector<NamedUsage>& quota) {
  std::map<std::string, std::int64_t> limits;
  for (const auto& [name, value] : object.items()) {
    if (is_no_resource(name, value)) continue;
    const auto known = std::ranges::find(quota, name, &NamedUsage::resource);
    if (known == quota.end()) return fail(Errc::invalid_argument, "Bad key(s) in quota set: " + name);
    const auto limit = limit_of(value);
    if (!limit) return no_limit(name);
    const std::uint64_t used = known->usage.in_use + known->usage.reserved;
    if (*limit >= 0 && static_cast<std::uint64_t>(*limit) < used) {
      return fail(Errc::invalid_argument, "Quota limit for " + name + " must be at least " + std::to_string(used) +
                                              ", which is in use or reserved.");
    }
    limits[name] = *limit;
  }
  return limits;
}

Result<std::map<std::string, std::int64_t>> parse_class_limits(const JsonIn& object) {
  std::map<std::string, std::int64_t> limits;
  for (const auto& [name, value] : object.items()) {
    if (is_no_resource(name, value)) continue;
    const auto limit = limit_of(value);
    if (!limit) return no_limit(name);
    limits[name] = *limit;
  }
  return limits;
}

Json limits_view(const std::vector<NamedUsage>& quota) {
  const Json absolute{{"maxTotalVolumes", usage_of(quota, "volumes").limit},
                      {"maxTotalSnapshots", usage_of(quota, "snapshots").limit},
                      {"maxTotalVolumeGigabytes", usage_of(quota, "gigabytes").limit},
                      {"maxTotalBackups", usage_of(quota, "backups").limit},
                      {"maxTotalBackupGigabytes", usage_of(quota, "backup_gigabytes").limit},
                      {"totalVolumesUsed", usage_of(quota, "volumes").in_use},
                      {"totalGigabytesUsed", usage_of(quota, "gigabytes").in_use},
                      {"totalSnapshotsUsed", usage_of(quota, "snapshots").in_use},
                      {"totalBackupsUsed", usage_of(quota, "backups").in_use},
                      {"totalBackupGigabytesUsed", usage_of(quota, "backup_gigabytes").in_use}};
  return Json{{"limits", Json{{"rate", Json::array()}, {"absolute", absolute}}}};
}

}  // namespace imagecache::api
