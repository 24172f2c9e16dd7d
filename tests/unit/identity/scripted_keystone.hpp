// A small Keystone for tests, on the scripted origin's server: gives out tokens of the service's own ("own-1", "own-2",
// …), and says of users' tokens what the test told it. Gates hold answers, counters prove how often it was asked.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "identity/keystone.hpp"
#include "support/scripted_origin.hpp"

namespace imagecache::identity {

inline const std::string tokens_path = "/v3/auth/tokens";

/// "2026-11-22T21:56:06.501236Z", as Keystone writes it.
inline std::string keystone_time(base::WallTime time) {
  return base::to_iso8601(time) + "Z";
}

struct ScriptedToken {
  std::string user = "alice";
  std::string project = "blue";
  std::vector<std::string> roles = {"member"};
  std::chrono::seconds lives_for{3600};  ///< from the clock's now
  nlohmann::json more{};                 ///< merged into "token"
};

class ScriptedKeystone {
 public:
  explicit ScriptedKeystone(const base::ManualClock& clock) : clock_(clock) {
    server_.answer_with(
        [this](const test::SeenRequest& request, const std::stop_token& stop) { return respond(request, stop); });
  }

  KeystoneCredentials credentials() const {
    return {.auth_url = server_.url(),
            .username = "glance",
            .password = "secret",
            .user_domain_name = "Default",
            .project_name = "service",
            .project_domain_name = "Default",
            .retry_delay = std::chrono::milliseconds(0)};
  }

  void add(const std::string& token, const ScriptedToken& says) {
    const std::scoped_lock lock(mutex_);
    tokens_[token] = says;
    expires_[token] = clock_.now() + says.lives_for;
  }
  void revoke(const std::string& token) {
    const std::scoped_lock lock(mutex_);
    tokens_.erase(token);
  }
  /// Own tokens given out so far are refused from here on.
  void forget_own_tokens() {
    const std::scoped_lock lock(mutex_);
    forgotten_ = given_;
  }
  void set_own_life(std::chrono::seconds life) {
    const std::scoped_lock lock(mutex_);
    own_life_ = life;
  }
  /// Every GET (validation) or POST (own token) waits here.
  void hold(const std::string& method, std::shared_ptr<test::Gate> gate) {
    const std::scoped_lock lock(mutex_);
    gates_[method] = std::move(gate);
  }
  /// The next `times` requests of this method are answered so; -1: all, 0: none any more.
  void answer(const std::string& method, const test::Answer& answer, int times = -1) {
    const std::scoped_lock lock(mutex_);
    scripted_[method] = {answer, times};
  }

  std::size_t validations() const { return server_.requests("GET", tokens_path); }
  std::size_t own_tokens_asked() const { return server_.requests("POST", tokens_path); }
  std::string last_target() const { return server_.last_request()->target; }
  nlohmann::json last_question() const {
    return nlohmann::json::parse(server_.last_request("POST", tokens_path)->body_start);
  }
  test::ScriptedOrigin& server() { return server_; }

 private:
  std::optional<test::Answer> respond(const test::SeenRequest& request, const std::stop_token& stop) {
    std::shared_ptr<test::Gate> gate;
    {
      const std::scoped_lock lock(mutex_);
      gate = gates_[request.method];
    }
    if (gate && !gate->pass(stop)) return test::Answer{.status = 503};
    const std::scoped_lock lock(mutex_);
    if (auto& [answer, times] = scripted_[request.method]; times != 0) {
      if (times > 0) --times;
      return answer;
    }
    if (!request.target.starts_with(tokens_path)) return test::Answer{.status = 404};
    if (request.method == "POST") return give();
    return validate(request);
  }

  test::Answer give() {
    const auto now = clock_.now();
    return {.status = 201,
            .headers = {{"X-Subject-Token", "own-" + std::to_string(++given_)}, {"Content-Type", "application/json"}},
            .body = body({.user = "glance", .project = "service", .roles = {"admin"}}, now + own_life_)};
  }

  test::Answer validate(const test::SeenRequest& request) {
    const std::string own = request.header("x-auth-token");
    const bool known =
        own.starts_with("own-") && std::stoi(own.substr(4)) > forgotten_ && std::stoi(own.substr(4)) <= given_;
    if (!known) return {.status = 401, .body = R"({"error": {"code": 401, "title": "Unauthorized"}})"};
    const std::string subject = request.header("x-subject-token");
    const auto found = tokens_.find(subject);
    const bool expired = found != tokens_.end() && expires_[subject] <= clock_.now();
    if (found == tokens_.end() || (expired && !request.target.contains("allow_expired=1"))) {
      return {.status = 404, .body = R"({"error": {"code": 404, "title": "Not Found"}})"};
    }
    return {.status = 200,
            .headers = {{"Content-Type", "application/json"}},
            .body = body(found->second, expires_[subject])};
  }

  std::string body(const ScriptedToken& says, base::WallTime expires_at) const {
    nlohmann::json token = {{"methods", {"password"}},
                            {"user", {{"id", says.user}, {"name", says.user}, {"domain", {{"id", "default"}}}}},
                            {"audit_ids", {"x"}},
                            {"expires_at", keystone_time(expires_at)},
                            {"issued_at", keystone_time(clock_.now())}};
    if (!says.project.empty()) {
      token["project"] = {{"id", says.project}, {"name", says.project}, {"domain", {{"id", "projects"}}}};
    }
    for (const auto& role : says.roles) token["roles"].push_back({{"id", "r"}, {"name", role}});
    if (says.more.is_object()) token.update(says.more);
    return nlohmann::json{{"token", token}}.dump();
  }

  const base::ManualClock& clock_;
  std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, ScriptedToken> tokens_;
  std::map<std::string, base::WallTime> expires_;
  std::map<std::string, std::shared_ptr<test::Gate>> gates_;
  std::map<std::string, std::pair<test::Answer, int>> scripted_;
  int given_ = 0;
  int forgotten_ = 0;
  std::chrono::seconds own_life_{3600};

  test::ScriptedOrigin server_;  // the last: it stops before what its threads use goes
};

}  // namespace imagecache::identity
