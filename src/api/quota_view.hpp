// Quotas as Cinder shows them: every resource it knows, whether or not it is one here.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "api/json.hpp"
#include "catalog/catalog.hpp"

namespace imagecache::api {

struct NamedUsage {
  std::string resource;
  catalog::QuotaUsage usage;
};

/// In Cinder's order: the resources of every project, three per type, groups. What `rows` does not say is Cinder's own
/// default: a limit without use.
std::vector<NamedUsage> complete_quota(const std::map<std::string, catalog::QuotaUsage>& rows,
                                       const std::vector<catalog::VolumeType>& types);

/// {"volumes": 10, …} or, with usage, {"volumes": {"limit", "in_use", "reserved"}, …}; the id last, if not empty.
Json quota_view(const std::vector<NamedUsage>& quota, bool with_usage, const std::string& project_id);

/// The limits of a PUT: known resources, whole numbers from -1 on, not below what is used. Errc::invalid_argument.
Result<std::map<std::string, std::int64_t>> parse_limits(const JsonIn& object, const std::vector<NamedUsage>& quota);

/// The same of a quota class: any resource, as Cinder takes them; the catalog knows which there can be.
Result<std::map<std::string, std::int64_t>> parse_class_limits(const JsonIn& object);

/// {"limits": {"rate": [], "absolute": {…}}}, exactly the ten that clients' schemas name.
Json limits_view(const std::vector<NamedUsage>& quota);

}  // namespace imagecache::api
