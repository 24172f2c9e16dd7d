#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/try.hpp"
#include "identity/keystone.hpp"
#include "identity/keystone_http.hpp"
#include "identity/token_answer.hpp"

namespace imagecache::identity {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

constexpr auto refusal_memory = 10s;
constexpr auto renewal_pause = 10s;  // between attempts while the old token is still good
constexpr auto new_token_patience = 5s;
constexpr std::chrono::microseconds least_margin = 2min;

Json domain(const std::string& id, const std::string& name) {
  return id.empty() ? Json{{"name", name}} : Json{{"id", id}};
}

/// The body of POST /v3/auth/tokens, as keystoneauth's v3password and v3applicationcredential write it.
std::string question(const KeystoneCredentials& c) {
  Json auth;
  if (!c.application_credential_id.empty()) {
    auth["identity"] = {
        {"methods", Json::array({"application_credential"})},
        {"application_credential", {{"id", c.application_credential_id}, {"secret", c.application_credential_secret}}}};
  } else {
    Json user = {{"password", c.password}};
    if (!c.user_id.empty()) {
      user["id"] = c.user_id;
    } else {
      user["name"] = c.username;
      user["domain"] = domain(c.user_domain_id, c.user_domain_name);
    }
    auth["identity"] = {{"methods", Json::array({"password"})}, {"password", {{"user", std::move(user)}}}};
    if (!c.system_scope.empty()) {
      auth["scope"] = {{"system", {{c.system_scope, true}}}};
    } else if (!c.project_id.empty()) {
      auth["scope"] = {{"project", {{"id", c.project_id}}}};
    } else if (!c.project_name.empty()) {
      auth["scope"] = {
          {"project", {{"name", c.project_name}, {"domain", domain(c.project_domain_id, c.project_domain_name)}}}};
    }
  }
  // A password that is not UTF-8 is sent with its bad bytes replaced: Keystone then says that it is wrong.
  return Json{{"auth", std::move(auth)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Result<void> check_credentials(const KeystoneCredentials& c, const std::string& section) {
  const auto missing = [&](const std::string& what) {
    return fail(Errc::invalid_argument, "[" + section + "] " + what);
  };
  if (c.auth_url.empty()) return missing("auth_url is not set: where is Keystone?");
  if (auto url = keystone_base_url(c.auth_url); !url) return missing(url.error().message);
  if (!c.cert_file.empty() && c.key_file.empty()) return missing("certfile is set without keyfile");
  if (!c.application_credential_id.empty()) {
    if (c.application_credential_secret.empty()) return missing("application_credential_secret is not set");
    return {};
  }
  if (c.username.empty() && c.user_id.empty()) return missing("neither username nor user_id is set");
  if (c.password.empty()) return missing("password is not set");
  if (c.user_id.empty() && c.user_domain_id.empty() && c.user_domain_name.empty()) {
    return missing("username needs user_domain_name or user_domain_id beside it, often Default");
  }
  const bool project = !c.project_id.empty() || !c.project_name.empty();
  if (!c.system_scope.empty() && project) return missing("a project and system_scope are set: a token has one scope");
  if (!c.system_scope.empty() && c.system_scope != "all") return missing("system_scope can only be all");
  if (c.system_scope.empty() && !project) return missing("neither project_name nor project_id nor system_scope is set");
  if (c.system_scope.empty() && c.project_id.empty() && c.project_domain_id.empty() && c.project_domain_name.empty()) {
    return missing("project_name needs project_domain_name or project_domain_id beside it, often Default");
  }
  return {};
}

struct ServiceToken::Impl {
  Impl(KeystoneCredentials c, const base::Clock* given)
      : clock(given != nullptr ? *given : system_clock), http(c), body(question(c)) {}

  struct Token {
    std::string text;
    std::string project_id;
    base::WallTime got_at;  // a clock that steps back behind it makes it old: who knows by how much it stepped
    base::WallTime renew_at;
    base::WallTime expires_at;
    bool fresh(base::WallTime now) const { return now >= got_at && now < renew_at; }
    bool good(base::WallTime now) const { return now >= got_at && now < expires_at; }
  };

  Result<Token> ask() {
    IMAGECACHE_TRY(const auto answer, http.ask({.path = "/auth/tokens?nocatalog", .headers = {}, .body = body}));
    if (answer.status == 401) {
      return fail(Errc::unauthenticated, "Keystone does not accept the service's own user and password");
    }
    if (answer.status != 201 || answer.subject_token.empty()) {
      return fail(Errc::unavailable,
                  "Keystone gives the service no token of its own: status " + std::to_string(answer.status));
    }
    IMAGECACHE_TRY(const auto parsed, parse_token_answer(answer.body));
    const auto now = clock.now();
    // How long it lives is Keystone's to say, by its own clock; when it ends is ours.
    const auto life = parsed.expires_at - parsed.issued_at.value_or(now);
    if (life <= 0s) return fail(Errc::unavailable, "Keystone gives the service a token that has expired already");
    const auto margin = std::min(std::max<std::chrono::microseconds>(life / 4, least_margin), life / 2);
    return Token{.text = answer.subject_token,
                 .project_id = parsed.who.project_id,
                 .got_at = now,
                 .renew_at = now + life - margin,
                 .expires_at = now + life};
  }

  const base::SystemClock system_clock{};
  const base::Clock& clock;
  KeystoneHttp http;
  const std::string body;

  std::mutex mutex;
  std::condition_variable asked;
  // Protected by mutex.
  bool asking = false;
  std::size_t answers = 0;
  std::optional<Token> token;
  std::optional<Error> failure;  // of the last asking
  base::WallTime failed_at;
};

ServiceToken::ServiceToken(KeystoneCredentials credentials, const base::Clock* clock)
    : impl_(std::make_unique<Impl>(std::move(credentials), clock)) {}
ServiceToken::~ServiceToken() = default;

Result<std::string> ServiceToken::get() {
  Impl& my = *impl_;
  std::unique_lock lock(my.mutex);
  const auto now = my.clock.now();
  const auto failed_within = [&](std::chrono::seconds time) {
    return my.failure && now >= my.failed_at && now < my.failed_at + time;
  };
  if (my.token && my.token->fresh(now)) return my.token->text;
  const bool still_good = my.token && my.token->good(now);
  if (still_good && (my.asking || failed_within(renewal_pause))) return my.token->text;
  if (my.failure && my.failure->code == Errc::unauthenticated && failed_within(refusal_memory)) {
    return std::unexpected(*my.failure);
  }
  if (my.asking) {
    const auto seen = my.answers;
    my.asked.wait(lock, [&] { return my.answers != seen; });
  } else {
    my.asking = true;
    lock.unlock();
    auto token = my.ask();
    lock.lock();
    my.asking = false;
    ++my.answers;
    my.failed_at = my.clock.now();
    if (token) {
      my.token = std::move(*token);
      my.failure.reset();
    } else {
      my.failure = std::move(token).error();
    }
    my.asked.notify_all();
    if (my.failure && my.token && my.token->good(my.failed_at)) return my.token->text;
  }
  if (my.failure) return std::unexpected(*my.failure);
  if (!my.token) return fail(Errc::unavailable, "the service's own token was refused as soon as it was there");
  return my.token->text;
}

std::string ServiceToken::project_id() const {
  const std::scoped_lock lock(impl_->mutex);
  return impl_->token ? impl_->token->project_id : std::string();
}

void ServiceToken::refused(const std::string& token) {
  const std::scoped_lock lock(impl_->mutex);
  auto& mine = impl_->token;
  if (!mine || mine->text != token) return;  // renewed already
  const auto now = impl_->clock.now();
  // A Keystone that takes none of the tokens that it gives would be asked for another by every request.
  if (now >= mine->got_at && now < mine->got_at + new_token_patience) return;
  mine.reset();
}

}  // namespace imagecache::identity
