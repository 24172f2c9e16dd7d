// What a caller may do: oslo.policy's rules, from the operator's own policy.yaml.
//
// The rule language is oslo.policy's, its greedy parser and its odd corners included: "role:admin", "rule:name",
// "user_id:%(user_id)s", "'literal':%(key)s", "is_admin:True", "@", "!", "", "and", "or", "not", parentheses, and the
// older list-of-lists form. A rule that the file does not name has its default; one that cannot be parsed denies, as in
// oslo.policy, and is a warning of load(). http: checks are refused at load: nothing here asks anybody.
//
// Where oslo.policy ends in an exception, which its callers answer with a 500, the whole question is denied here: rules
// that call each other in a circle, "%(" without its end, an attribute of an attribute that has none. That also holds
// under a "not".
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
  std::string_view name;            ///< "cache_list"
  std::string_view check;           ///< "role:admin"
  bool project_scope_only = false;  ///< scope_types=['project']: with enforce_scope, not for a token of the system
};

struct PolicyOptions {
  /// YAML or JSON; empty or absent: defaults only. Where policy.yaml is absent and may be, policy.json beside it is
  /// read, as by oslo.policy.
  std::string policy_file;
  bool policy_file_must_exist = false;   ///< set by the operator, so its absence is a mistake
  std::vector<std::string> policy_dirs;  ///< each file of each that is not hidden, sorted, over the file; may be absent
  std::string policy_default_rule = "default";
  bool enforce_scope = false;
  std::size_t max_file_bytes = 1 << 20;
};

/// What is acted upon: attributes by name, such as an image's "owner", as Python prints them ("True", "None"). A check
/// that names an attribute that is not here fails.
using PolicyTarget = std::map<std::string, std::string, std::less<>>;

class Policy {
 public:
  /// `defaults` must outlive nothing: it is copied. Errc::invalid_argument names file and line.
  static Result<Policy> load(const PolicyOptions& options, std::span<const PolicyDefault> defaults);
  /// The same from one file's content; `name` is for messages.
  static Result<Policy> parse(std::string_view content, const std::string& name, const PolicyOptions& options,
                              std::span<const PolicyDefault> defaults);
  Policy(Policy&&) noexcept;
  Policy& operator=(Policy&&) noexcept;
  ~Policy();

  /// An unknown rule falls to policy_default_rule and, where that is unknown too, denies.
  ///
  /// The caller's attributes are oslo.context's: user_id, user_domain_id, project_id, project_domain_id, system_scope,
  /// system, roles, is_admin, is_admin_project, and user and tenant as older policies call them; one that he does not
  /// have is "None" where a rule compares it.
  bool allows(std::string_view rule, const base::RequestContext& who, const PolicyTarget& target = {}) const;
  /// Does a file of the operator's name this rule? Not by a default.
  bool set_by_operator(std::string_view rule) const;
  /// For the log at start: rules that could not be understood, files that were not there.
  const std::vector<std::string>& warnings() const;

 private:
  struct Impl;
  explicit Policy(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The image cache's own calls, as glance-api 25.1 and later name them: cache_list, cache_image, cache_delete,
/// cache_clean, cache_prune, list_cached_nodes, manage_image_cache, context_is_admin; all "role:admin" by default. The
/// first three also accept whom manage_image_cache accepts, until [oslo_policy] enforce_new_defaults is set.
std::span<const PolicyDefault> image_cache_policies(bool enforce_new_defaults = false);

/// Those of the Block Storage API, named as Cinder's ("volume:get_all"), with Cinder's defaults: those from before Xena
/// too, until [oslo_policy] enforce_new_defaults is set. Of those, "volume:create" was anybody's.
std::span<const PolicyDefault> volume_policies(bool enforce_new_defaults = false);

}  // namespace imagecache::identity
