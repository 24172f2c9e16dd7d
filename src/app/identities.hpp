// Who callers are, and who we are to Keystone: from auth_strategy, the image API's pipeline, [keystone_authtoken] and
// [service_user].
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "config/config.hpp"
#include "config/pipeline.hpp"
#include "identity/identity.hpp"
#include "identity/keystone.hpp"
#include "identity/policy.hpp"

namespace imagecache::app {

/// Any thread, but load().
class Identities {
 public:
  /// Asks nobody yet: Keystone may start after us. Errc::invalid_argument for a policy that cannot be read.
  static Result<std::unique_ptr<Identities>> load(const config::Config& config, const config::Pipeline& pipeline);

  const identity::Authenticator& volume_api() const { return *volume_api_; }
  const identity::Authenticator& image_api() const { return image_api_ ? *image_api_ : *volume_api_; }
  const identity::Policy& policy() const { return policy_; }

 private:
  explicit Identities(identity::Policy policy) : policy_(std::move(policy)) {}

  std::unique_ptr<identity::ServiceToken> tokens_;  // with which others' tokens are checked
  std::unique_ptr<identity::Authenticator> volume_api_;
  std::unique_ptr<identity::Authenticator> image_api_;  // null: the same one
  identity::Policy policy_;
};

/// The service's own account: [service_user], else [keystone_authtoken]. Null where neither names a user.
std::unique_ptr<identity::ServiceToken> service_token(const config::Config& config);
/// Where Keystone is, and how it is spoken to, as the same sections have it; absent where neither names one.
std::optional<identity::KeystoneCredentials> where_keystone_is(const config::Config& config);
/// On whose account image bytes are fetched where no reader's token is at hand or good any more: [service_user]'s,
/// else [keystone_authtoken]'s; with neither, on nobody's. What it returns blocks on Keystone. Any thread.
std::function<Result<base::RequestContext>()> service_context(const config::Config& config);

}  // namespace imagecache::app
