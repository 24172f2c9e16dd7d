// Quotas: what may be, what is. The rules are in quota.cpp.

#include <fmt/format.h>

#include "base/try.hpp"
#include "catalog/quota.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {

Result<std::map<std::string, QuotaUsage>> SqliteCatalog::quota(const std::string& project_id) {
  return readers_.run([&](Connection& connection) -> Result<std::map<std::string, QuotaUsage>> {
    return ProjectQuota(connection, defaults_, project_id).all();
  });
}

Result<void> SqliteCatalog::set_quota(const std::string& project_id,
                                      const std::map<std::string, std::int64_t>& limits) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    const auto now = ProjectQuota(connection, defaults_, project_id).all();
    for (const auto& [resource, limit] : limits) {
      const auto known = now.find(resource);
      if (known == now.end()) {
        return fail(Errc::invalid_argument,
                    fmt::format("Quota '{}' is unknown: there is no such resource, or no such volume type.", resource));
      }
      if (limit < -1 || limit > largest_size_gb) {
        return fail(Errc::invalid_argument, fmt::format("Quota {} limit {} must be between -1 (unlimited) and {}.",
                                                        resource, limit, largest_size_gb));
      }
      const auto used = known->second.in_use + known->second.reserved;
      if (limit >= 0 && static_cast<std::uint64_t>(limit) < used) {
        return fail(Errc::invalid_argument,
                    fmt::format("Quota {} limit must be equal or greater than existing resources. "
                                "Requested {}, but {} are in use.",
                                resource, limit, used));
      }
    }
    for (const auto& [resource, limit] : limits) {
      connection
          .query(
              "INSERT INTO quotas (project_id, resource, hard_limit) VALUES (?1, ?2, ?3) "
              "ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit")
          .with(project_id, resource, limit)
          .run();
    }
    return {};
  });
}

Result<void> SqliteCatalog::reset_quota(const std::string& project_id) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection.query("DELETE FROM quotas WHERE project_id = ?1").with(project_id).run();
    return {};
  });
}

Result<std::map<std::string, std::int64_t>> SqliteCatalog::quota_defaults() {
  return quota_class("default");
}

Result<std::map<std::string, std::int64_t>> SqliteCatalog::quota_class(const std::string& name) {
  return readers_.run([&](Connection& connection) -> Result<std::map<std::string, std::int64_t>> {
    const auto set = class_limits(connection, defaults_, name);
    std::map<std::string, std::int64_t> limits;
    // A project that nobody is in has every resource and no usage.
    for (const auto& [resource, usage] : ProjectQuota(connection, defaults_, "").all()) {
      const auto found = set.find(resource);
      limits[resource] = found == set.end() ? -1 : found->second;
    }
    return limits;
  });
}

Result<void> SqliteCatalog::set_quota_class(const std::string& name,
                                            const std::map<std::string, std::int64_t>& limits) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    for (const auto& [resource, limit] : limits) {
      const bool of_type =
          resource.starts_with("volumes_") || resource.starts_with("gigabytes_") || resource.starts_with("snapshots_");
      if (!of_type && !common_resources().contains(resource))
        return fail(Errc::invalid_argument, fmt::format("Quota '{}' is unknown: there is no such resource.", resource));
      if (limit < -1 || limit > largest_size_gb) {
        return fail(Errc::invalid_argument, fmt::format("Quota {} limit {} must be between -1 (unlimited) and {}.",
                                                        resource, limit, largest_size_gb));
      }
    }
    for (const auto& [resource, limit] : limits) {
      connection
          .query(
              "INSERT INTO quota_classes (class, resource, hard_limit) VALUES (?1, ?2, ?3) "
              "ON CONFLICT (class, resource) DO UPDATE SET hard_limit = excluded.hard_limit")
          .with(name, resource, limit)
          .run();
    }
    return {};
  });
}

}  // namespace imagecache::catalog
