// What a caller may do: oslo.policy's rules, from the operator's own policy.yaml.
//
// The rule language is oslo.policy's: "role:admin", "rule:name", "user_id:%(user_id)s", "'literal':%(key)s",
// "is_admin:1",
// "@", "!", "", "and", "or", "not", parentheses, and the older list-of-lists form. A rule that the file does not name
// has its default; one that cannot be parsed denies, as in oslo.policy, and is a warning of load(). http: checks are
// refused at load.
//
// Immutable once loaded; any thread; never blocks.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/request_context.hpp"
#include "imagecache/error.hpp"

namespace imagecache::identity {

struct PolicyDefault {
  std::string_view name;   ///< "cache_list"
  std::string_view check;  ///< "role:admin"
};

struct PolicyOptions {
  std::string policy_file;               ///< YAML or JSON; empty or absent: defaults only
  bool policy_file_must_exist = false;   ///< set by the operator, so its absence is a mistake
  std::vector<std::string> policy_dirs;  ///< each *.yaml/*.json of each, sorted, over the file
  std::string policy_default_rule = "default";
};

/// What is acted upon: attributes by name, such as an image's "owner".
using PolicyTarget = std::map<std::string, std::string, std::less<>>;

class Policy {
 public:
  /// `defaults` must outlive nothing: it is copied. Errc::invalid_argument names file and line.
  static Result<Policy> load(const PolicyOptions& options, std::span<const PolicyDefault> defaults);
  Policy(Policy&&) noexcept;
  Policy& operator=(Policy&&) noexcept;
  ~Policy();

  /// An unknown rule falls to policy_default_rule and, where that is unknown too, denies.
  bool allows(std::string_view rule, const base::RequestContext& who, const PolicyTarget& target = {}) const;
  /// For the log at start: rules that could not be understood, files that were not there.
  const std::vector<std::string>& warnings() const;

 private:
  struct Impl;
  explicit Policy(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The image cache's own calls, as glance-api 25.1 and later name them: cache_list, cache_image, cache_delete,
/// cache_clean, cache_prune, list_cached_nodes, manage_image_cache, context_is_admin; all "role:admin" by default.
std::span<const PolicyDefault> image_cache_policies();

}  // namespace imagecache::identity
