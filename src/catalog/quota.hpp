// Cinder's quota rules, inside the transaction that changes what they count. Private to the room.
#pragma once

#include <set>
#include <string>

#include "catalog/connection.hpp"

namespace imagecache::catalog {

/// Cinder's column is a 32-bit integer, and so is every limit.
constexpr std::int64_t largest_size_gb = 2'147'483'647;

/// A project's limits and usage as they are in this transaction.
class ProjectQuota {
 public:
  ProjectQuota(Connection& connection, const QuotaDefaults& defaults, const std::string& project_id);

  /// May a volume of this size be there at all? Errc::quota_exceeded with Cinder's message.
  Result<void> check_volume_size(std::uint64_t size_gb) const;
  /// May so many more be there? Errc::quota_exceeded with Cinder's message.
  Result<void> check_growth(const std::string& volume_type, std::uint64_t volumes, std::uint64_t gigabytes) const;
  /// May a volume that is there already be of this type instead? Errc::quota_exceeded with Cinder's message.
  Result<void> check_retype(const std::string& volume_type, std::uint64_t size_gb) const;
  /// Every resource that there is for this project.
  std::map<std::string, QuotaUsage> all() const;

 private:
  struct Usage {
    std::uint64_t volumes = 0;
    std::uint64_t gigabytes = 0;
  };
  Usage usage_of_type(const std::string& volume_type) const;
  Result<void> check_space(const std::string& resource, std::uint64_t used, std::uint64_t more) const;
  Result<void> check_number(const std::string& resource, std::uint64_t used, std::uint64_t more) const;
  std::int64_t limit(const std::string& resource) const;

  const std::map<std::string, std::int64_t> defaults_;  // the options, and over them the quota class "default"
  std::map<std::string, std::int64_t> limits_;
  std::map<std::string, Usage> usage_by_type_;  // "" among them: volumes without a type
  Usage total_;
  std::set<std::string> types_;
};

/// The options, and over them what is set for the class.
std::map<std::string, std::int64_t> class_limits(Connection& connection, const QuotaDefaults& defaults,
                                                 const std::string& name);

/// Resources that there are whatever the types.
const std::set<std::string>& common_resources();
/// "volumes_gold", "gigabytes_gold", "snapshots_gold".
std::set<std::string> resources_of_type(const std::string& volume_type);

}  // namespace imagecache::catalog
