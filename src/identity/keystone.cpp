#include "identity/keystone.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "base/digest.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "identity/keystone_http.hpp"
#include "identity/token_answer.hpp"
#include "identity/token_memory.hpp"

namespace imagecache::identity {
namespace {

using Who =
    std::shared_ptr<const base::RequestContext>;  // many requests and the memory share one, and copy it unlocked

std::unexpected<Error> unauthenticated() {
  return fail(Errc::unauthenticated, "The request you have made requires authentication.");
}

/// The token itself stays in memory only where there is no digest to stand for it.
std::string key_of(std::string_view token) {
  return base::sha256_hex(token).value_or(std::string(token));
}

class Keystone final : public Authenticator {
 public:
  Keystone(KeystoneOptions options, ServiceToken& tokens)
      : options_(std::move(options)),
        clock_(options_.clock != nullptr ? *options_.clock : system_clock_),
        tokens_(tokens),
        http_(options_.credentials),
        good_(options_.token_cache_entries),
        bad_(options_.bad_token_entries) {
    for (auto& role : options_.service_token_roles) role = base::to_lower(role);
  }

  bool blocks() const override { return true; }

  std::string challenge() const override {
    const auto& uri = options_.www_authenticate_uri;
    return "Keystone uri=\"" + (uri.empty() ? options_.credentials.auth_url : uri) + "\"";
  }

  Result<base::RequestContext> authenticate(const Presented& presented) const override {
    bool allow_expired = false;
    if (const auto token = base::trim(presented.service_token); !token.empty()) {
      IMAGECACHE_TRY(const Who service, identify(token, false));
      allow_expired = is_service(*service);
      if (!allow_expired && options_.service_token_roles_required) return unauthenticated();
    }
    IMAGECACHE_TRY(const Who who, identify(base::trim(presented.auth_token), allow_expired));
    return context_of(*who, presented);
  }

  std::optional<base::RequestContext> remembered(const Presented& presented) const override {
    if (const auto token = base::trim(presented.service_token); !token.empty()) {
      const auto service = good_.find(key_of(token), clock_.now());
      if (!service || (!is_service(**service) && options_.service_token_roles_required)) return std::nullopt;
    }
    const auto who = good_.find(key_of(base::trim(presented.auth_token)), clock_.now());
    if (!who) return std::nullopt;
    auto context = context_of(**who, presented);
    return context ? std::optional(*std::move(context)) : std::nullopt;
  }

 private:
  /// One question under way; whoever brings the same token waits for its answer.
  struct Flight {
    std::optional<Result<Who>> answer;
  };

  bool is_service(const base::RequestContext& who) const {
    return std::ranges::any_of(who.roles, [this](const std::string& role) {
      return std::ranges::find(options_.service_token_roles, role) != options_.service_token_roles.end();
    });
  }

  static Result<base::RequestContext> context_of(const base::RequestContext& who, const Presented& presented) {
    if (who.project_id.empty() && who.system_scope.empty()) return unauthenticated();
    base::RequestContext context = who;
    context.request_id = "req-" + base::new_uuid();
    if (base::is_request_id(presented.request_id)) context.global_request_id = presented.request_id;
    context.auth_token = base::trim(presented.auth_token);
    context.service_token = base::trim(presented.service_token);
    return context;
  }

  /// It goes into a header of ours.
  bool is_token(std::string_view token) const {
    return !token.empty() && token.size() <= options_.max_token_bytes &&
           std::ranges::all_of(token, [](char c) { return c > ' ' && c < 0x7f; });
  }

  Result<Who> identify(std::string_view token, bool allow_expired) const {
    if (!is_token(token)) return unauthenticated();
    const std::string key = key_of(token);
    if (key.empty()) return fail(Errc::internal, "libcrypto has no SHA-256");
    // What was refused without a service token may be good with one.
    const std::string question = allow_expired ? key + "+" : key;
    std::shared_ptr<Flight> flight;
    {
      std::unique_lock lock(mutex_);
      if (auto known = recall(key, question)) return *std::move(known);
      auto& place = flights_[question];
      if (place) {
        flight = place;
        landed_.wait(lock, [&] { return flight->answer.has_value(); });
        return *flight->answer;
      }
      flight = place = std::make_shared<Flight>();
    }
    Result<Who> answer = ask(token, allow_expired, key, question);
    const std::scoped_lock lock(mutex_);
    flight->answer = answer;
    flights_.erase(question);
    landed_.notify_all();
    return answer;
  }

  std::optional<Result<Who>> recall(const std::string& key, const std::string& question) const {
    const auto now = clock_.now();
    if (auto who = good_.find(key, now)) return Result<Who>(*std::move(who));
    if (bad_.find(question, now)) return Result<Who>(unauthenticated());
    return std::nullopt;
  }

  Result<Who> ask(std::string_view token, bool allow_expired, const std::string& key,
                  const std::string& question) const {
    IMAGECACHE_TRY(const KeystoneAnswer answer, ask_with_own_token(token, allow_expired));
    if (answer.status == 404) return refuse(question);
    if (answer.status != 200) {
      return fail(Errc::unavailable,
                  fmt::format("Keystone does not let the service look at tokens: status {}{}", answer.status,
                              answer.status == 403 ? "; give its user the role admin or service in its project" : ""));
    }
    IMAGECACHE_TRY(auto parsed, parse_token_answer(answer.body));
    const auto now = clock_.now();
    if (parsed.bound_elsewhere || (!allow_expired && parsed.expires_at <= now)) return refuse(question);
    auto who = std::make_shared<const base::RequestContext>(std::move(parsed.who));
    // One that has expired already is not remembered: until then it is in the past.
    good_.put(key, who, now, std::min(parsed.expires_at, now + options_.token_cache_time));
    return who;
  }

  Result<Who> refuse(const std::string& question) const {
    const auto now = clock_.now();
    bad_.put(question, true, now, now + std::min(options_.bad_token_memory, options_.token_cache_time));
    return unauthenticated();
  }

  Result<KeystoneAnswer> ask_with_own_token(std::string_view token, bool allow_expired) const {
    for (int attempt = 0; attempt < 2; ++attempt) {
      auto own = tokens_.get();
      // That Keystone does not know us is our operator's matter, not the caller's.
      if (!own) return fail(Errc::unavailable, std::move(own).error().message);
      IMAGECACHE_TRY(
          auto answer,
          http_.ask({.path = allow_expired ? "/auth/tokens?nocatalog&allow_expired=1" : "/auth/tokens?nocatalog",
                     .headers = {"X-Auth-Token: " + *own, "X-Subject-Token: " + std::string(token)},
                     .body = std::nullopt}));
      if (answer.status != 401) return answer;
      tokens_.refused(*own);
    }
    return fail(Errc::unavailable, "Keystone refuses the service's own token");
  }

  KeystoneOptions options_;
  const base::SystemClock system_clock_{};
  const base::Clock& clock_;
  ServiceToken& tokens_;
  mutable KeystoneHttp http_;
  mutable TokenMemory<Who> good_;  // by SHA-256 of the token
  mutable TokenMemory<bool> bad_;  // by question
  mutable std::mutex mutex_;
  mutable std::condition_variable landed_;
  mutable std::unordered_map<std::string, std::shared_ptr<Flight>> flights_;  // protected by mutex_; by question
};

}  // namespace

std::unique_ptr<Authenticator> make_keystone(KeystoneOptions options, ServiceToken& tokens) {
  return std::make_unique<Keystone>(std::move(options), tokens);
}

}  // namespace imagecache::identity
