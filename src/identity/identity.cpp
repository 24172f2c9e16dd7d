#include "identity/identity.hpp"

#include "base/text.hpp"

namespace imagecache::identity {
namespace {

class NoAuth final : public Authenticator {
 public:
  Result<base::RequestContext> authenticate(const Presented& presented) const override {
    base::RequestContext context;
    context.request_id = "req-" + base::new_uuid();
    if (base::is_request_id(presented.request_id)) context.global_request_id = presented.request_id;
    context.auth_token = presented.auth_token;
    context.service_token = presented.service_token;
    const std::string_view token = presented.auth_token.empty() ? "admin:admin" : presented.auth_token;
    const auto colon = token.find(':');
    context.user_id = token.substr(0, colon);
    context.project_is_default = presented.auth_token.find(':') == std::string_view::npos;
    context.project_id = colon == std::string_view::npos ? token : token.substr(colon + 1);
    if (context.project_id.empty()) context.project_id = context.user_id;
    context.is_admin = true;
    context.roles = {"admin"};
    return context;
  }
};

class Trusting final : public Authenticator {
 public:
  Result<base::RequestContext> authenticate(const Presented& presented) const override {
    base::RequestContext context;
    context.request_id = "req-" + base::new_uuid();
    if (base::is_request_id(presented.request_id)) context.global_request_id = presented.request_id;
    context.auth_token = presented.auth_token;
    context.service_token = presented.service_token;
    context.is_admin = true;
    return context;
  }
};

class Refusing final : public Authenticator {
 public:
  explicit Refusing(std::string reason) : reason_(std::move(reason)) {}
  Result<base::RequestContext> authenticate(const Presented&) const override {
    return fail(Errc::unauthenticated, reason_);
  }

 private:
  const std::string reason_;
};

}  // namespace

std::unique_ptr<Authenticator> make_noauth() {
  return std::make_unique<NoAuth>();
}

std::unique_ptr<Authenticator> make_trusting() {
  return std::make_unique<Trusting>();
}

std::unique_ptr<Authenticator> make_refusing(std::string reason) {
  return std::make_unique<Refusing>(std::move(reason));
}

}  // namespace imagecache::identity
