// Who the bearer of a token is, against a scripted Keystone.
#include "identity/keystone.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/text.hpp"
#include "identity/token_answer.hpp"
#include "scripted_keystone.hpp"

namespace imagecache::identity {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

class KeystoneTokens : public testing::Test {
 protected:
  std::unique_ptr<Authenticator> make(const std::function<void(KeystoneOptions&)>& change = {}) {
    KeystoneOptions options{.credentials = keystone_.credentials(), .clock = &clock_};
    if (change) change(options);
    return make_keystone(std::move(options), own_);
  }
  static Errc code(const Authenticator& who, const Presented& presented) {
    const auto answer = who.authenticate(presented);
    EXPECT_FALSE(answer) << "accepted: " << presented.auth_token;
    return answer ? Errc::internal : answer.error().code;
  }

  base::ManualClock clock_;
  ScriptedKeystone keystone_{clock_};
  ServiceToken own_{keystone_.credentials(), &clock_};
  const std::unique_ptr<Authenticator> who_ = make();
};

TEST_F(KeystoneTokens, TellWhoTheBearerIs) {
  keystone_.add("t", {.user = "alice", .project = "blue", .roles = {"Member", "reader"}});
  const std::string id = "req-3a0f9c1e-7b7e-4b52-9f0c-0d9a5b7c1e11";
  const auto alice = who_->authenticate({.auth_token = " t ", .request_id = id}).value();
  EXPECT_EQ(alice.user_id, "alice");
  EXPECT_EQ(alice.project_id, "blue");
  EXPECT_EQ(alice.user_domain_id, "default");
  EXPECT_EQ(alice.project_domain_id, "projects");
  EXPECT_THAT(alice.roles, ElementsAre("member", "reader"));
  EXPECT_FALSE(alice.is_admin);
  EXPECT_FALSE(alice.project_is_default);
  EXPECT_EQ(alice.system_scope, "");
  EXPECT_EQ(alice.auth_token, "t");
  EXPECT_EQ(alice.global_request_id, id);
  EXPECT_TRUE(base::is_request_id(alice.request_id));
  EXPECT_NE(who_->authenticate({.auth_token = "t"})->request_id, alice.request_id);
}

TEST_F(KeystoneTokens, TheRoleAdminMakesAnAdminInAnyCase) {
  keystone_.add("t", {.roles = {"Admin"}});
  EXPECT_TRUE(who_->authenticate({.auth_token = "t"})->is_admin);
}

TEST_F(KeystoneTokens, ATokenOfTheSystemPassesAndOneOfNothingDoesNot) {
  keystone_.add("system", {.project = "", .roles = {"admin"}, .more = {{"system", {{"all", true}}}}});
  keystone_.add("unscoped", {.project = "", .roles = {}});
  keystone_.add("domain", {.project = "", .roles = {"admin"}, .more = {{"domain", {{"id", "d"}}}}});
  EXPECT_EQ(who_->authenticate({.auth_token = "system"})->system_scope, "all");
  EXPECT_EQ(code(*who_, {.auth_token = "unscoped"}), Errc::unauthenticated);
  EXPECT_EQ(code(*who_, {.auth_token = "domain"}), Errc::unauthenticated);
  EXPECT_FALSE(who_->remembered({.auth_token = "unscoped"}));
}

TEST_F(KeystoneTokens, NoTokenOrOneThatIsNoneIsRefusedUnasked) {
  for (const std::string token : {"", "  ", "a b", "a\nX-Roles: admin", "a\x7f", "caf\xc3\xa9"}) {
    EXPECT_EQ(code(*who_, {.auth_token = token}), Errc::unauthenticated);
  }
  EXPECT_EQ(code(*who_, {.auth_token = std::string(9000, 'a')}), Errc::unauthenticated);
  EXPECT_EQ(keystone_.validations(), 0U);
}

TEST_F(KeystoneTokens, AGoodAnswerIsRememberedForItsTimeAndThenAskedAgain) {
  keystone_.add("t", {});
  EXPECT_FALSE(who_->remembered({.auth_token = "t"}));
  ASSERT_TRUE(who_->authenticate({.auth_token = "t"}));
  clock_.advance(299s);
  EXPECT_EQ(who_->remembered({.auth_token = "t"})->user_id, "alice");
  ASSERT_TRUE(who_->authenticate({.auth_token = "t"}));
  EXPECT_EQ(keystone_.validations(), 1U);
  keystone_.revoke("t");
  clock_.advance(2s);
  EXPECT_FALSE(who_->remembered({.auth_token = "t"}));
  EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unauthenticated);
  EXPECT_EQ(keystone_.validations(), 2U);
}

TEST_F(KeystoneTokens, NothingIsBelievedBeyondTheTokensEnd) {
  keystone_.add("t", {.lives_for = 60s});
  ASSERT_TRUE(who_->authenticate({.auth_token = "t"}));
  clock_.advance(60s);
  EXPECT_FALSE(who_->remembered({.auth_token = "t"}));
  EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unauthenticated);
}

TEST_F(KeystoneTokens, AClockThatStepsBackEndsBelief) {
  keystone_.add("t", {});
  ASSERT_TRUE(who_->authenticate({.auth_token = "t"}));
  clock_.advance(-10min);
  EXPECT_FALSE(who_->remembered({.auth_token = "t"}));
}

TEST_F(KeystoneTokens, WithoutACacheTimeEachRequestAsks) {
  const auto who = make([](auto& options) { options.token_cache_time = 0s; });
  keystone_.add("t", {});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(who->authenticate({.auth_token = "t"}));
  EXPECT_FALSE(who->remembered({.auth_token = "t"}));
  EXPECT_EQ(keystone_.validations(), 3U);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(code(*who, {.auth_token = "bad"}), Errc::unauthenticated);
  EXPECT_EQ(keystone_.validations(), 5U);
}

TEST_F(KeystoneTokens, OfTooManyTheOneThatWasNotUsedForLongestIsForgotten) {
  const auto who = make([](auto& options) { options.token_cache_entries = 2; });
  for (const std::string token : {"a", "b"}) {
    keystone_.add(token, {});
    ASSERT_TRUE(who->authenticate({.auth_token = token}));
  }
  ASSERT_TRUE(who->remembered({.auth_token = "a"}));
  keystone_.add("c", {});
  ASSERT_TRUE(who->authenticate({.auth_token = "c"}));
  EXPECT_TRUE(who->remembered({.auth_token = "a"}));
  EXPECT_FALSE(who->remembered({.auth_token = "b"}));
}

TEST_F(KeystoneTokens, ABadTokenIsRememberedForAMoment) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unauthenticated);
  EXPECT_EQ(keystone_.validations(), 1U);
  keystone_.add("t", {});
  clock_.advance(10s);
  EXPECT_TRUE(who_->authenticate({.auth_token = "t"}));
}

TEST_F(KeystoneTokens, ManyWhoBringTheSameTokenAtOnceMakeOneQuestion) {
  keystone_.add("t", {});
  const auto gate = std::make_shared<test::Gate>();
  keystone_.hold("GET", gate);
  std::vector<std::jthread> threads;
  std::atomic<int> accepted = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { accepted += who_->authenticate({.auth_token = "t"}) ? 1 : 0; });
  }
  ASSERT_TRUE(gate->wait_arrived());
  gate->open();
  threads.clear();
  EXPECT_EQ(accepted, 8);
  EXPECT_EQ(keystone_.validations(), 1U);
  EXPECT_EQ(keystone_.own_tokens_asked(), 1U);
}

TEST_F(KeystoneTokens, DifferentTokensDoNotWaitForEachOther) {
  keystone_.add("slow", {.user = "slow"});
  keystone_.add("quick", {.user = "quick"});
  const auto gate = std::make_shared<test::Gate>();
  keystone_.hold("GET", gate);
  std::jthread slow([&] { EXPECT_EQ(who_->authenticate({.auth_token = "slow"})->user_id, "slow"); });
  ASSERT_TRUE(gate->wait_arrived());
  keystone_.hold("GET", nullptr);
  EXPECT_EQ(who_->authenticate({.auth_token = "quick"})->user_id, "quick");
  gate->open();
}

TEST_F(KeystoneTokens, WhereOurOwnTokenIsRefusedItIsRenewedOnceAndAskedAgain) {
  keystone_.add("t", {});
  ASSERT_TRUE(own_.get());
  clock_.advance(1min);
  keystone_.forget_own_tokens();
  EXPECT_TRUE(who_->authenticate({.auth_token = "t"}));
  EXPECT_EQ(keystone_.validations(), 2U);
  EXPECT_EQ(keystone_.own_tokens_asked(), 2U);
}

TEST_F(KeystoneTokens, WhereKeystoneTakesNoneOfOurTokensTheServiceIsUnavailableAndNotTheCallerAtFault) {
  keystone_.add("t", {});
  keystone_.answer("GET", {.status = 401});
  EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unavailable);
  EXPECT_EQ(keystone_.validations(), 2U);
}

TEST_F(KeystoneTokens, WhereKeystoneDoesNotKnowTheServiceItIsUnavailable) {
  keystone_.answer("POST", {.status = 401});
  EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unavailable);
  EXPECT_EQ(keystone_.validations(), 0U);
}

TEST_F(KeystoneTokens, WhereTheServiceMayNotAskTheMessageSaysWhatToDo) {
  keystone_.answer("GET", {.status = 403});
  const auto answer = who_->authenticate({.auth_token = "t"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::unavailable);
  EXPECT_THAT(answer.error().message, HasSubstr("give its user the role"));
}

TEST_F(KeystoneTokens, WhileKeystoneIsAwayWhatIsRememberedHoldsAndNothingElse) {
  keystone_.add("t", {});
  keystone_.add("new", {});
  ASSERT_TRUE(who_->authenticate({.auth_token = "t"}));
  keystone_.server().go_down();
  EXPECT_TRUE(who_->authenticate({.auth_token = "t"}));
  EXPECT_EQ(code(*who_, {.auth_token = "new"}), Errc::unavailable);
  keystone_.server().come_back();
  EXPECT_TRUE(who_->authenticate({.auth_token = "new"}));  // not remembered as bad
}

TEST_F(KeystoneTokens, AServerThatIsBusyIsAskedAgain) {
  keystone_.add("t", {});
  keystone_.answer("GET", {.status = 503}, 2);
  EXPECT_TRUE(who_->authenticate({.auth_token = "t"}));
  EXPECT_EQ(keystone_.validations(), 3U);
}

TEST_F(KeystoneTokens, OneTokenThatKeystoneStumblesOverHarmsNoOther) {
  keystone_.add("t", {});
  ASSERT_TRUE(own_.get());
  keystone_.answer("GET", {.status = 500}, 1);
  EXPECT_EQ(code(*who_, {.auth_token = "odd"}), Errc::unavailable);
  EXPECT_EQ(keystone_.validations(), 1U);  // it would stumble again
  const auto gate = std::make_shared<test::Gate>();
  keystone_.hold("GET", gate);
  std::jthread probing([&] { EXPECT_EQ(code(*who_, {.auth_token = "odd"}), Errc::unauthenticated); });
  ASSERT_TRUE(gate->wait_arrived());
  keystone_.hold("GET", nullptr);
  EXPECT_TRUE(who_->authenticate({.auth_token = "t"}));
  gate->open();
}

TEST_F(KeystoneTokens, WhileOneFindsOutWhetherKeystoneIsBackTheOthersDoNotWait) {
  keystone_.add("t", {});
  ASSERT_TRUE(own_.get());
  keystone_.answer("GET", {.status = 503}, 4);
  EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unavailable);
  const auto gate = std::make_shared<test::Gate>();
  keystone_.hold("GET", gate);
  std::jthread probing([&] { EXPECT_TRUE(who_->authenticate({.auth_token = "t"})); });
  ASSERT_TRUE(gate->wait_arrived());
  EXPECT_EQ(code(*who_, {.auth_token = "other"}), Errc::unavailable);
  EXPECT_EQ(keystone_.validations(), 5U);
  gate->open();
  probing.join();
  EXPECT_EQ(code(*who_, {.auth_token = "other"}), Errc::unauthenticated);
}

TEST_F(KeystoneTokens, AnAnswerThatIsNoTokenIsNotBelieved) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  const std::string when = R"("expires_at": "2999-01-01T00:00:00.000000Z")";
  for (const std::string& body : std::vector<std::string>{
           "", "{}", "<html>log in</html>", "[]", R"({"token": 5})", R"({"token": {}})", deep,
           "{\"token\": " + deep + "}", R"({"token": {"user": {"id": "u"}, "project": {"id": "p"}}})",
           R"({"token": {"user": {"id": "u"}, "project": {"id": "p"}, "expires_at": "tomorrow"}})",
           "{\"token\": {" + when + ", \"user\": {\"id\": 5}, \"project\": {\"id\": \"p\"}}}",
           "{\"token\": {" + when + ", \"user\": {\"id\": \"u\"}, \"project\": {\"id\": \"p\"}, \"x\": " + deep + "}}",
           "{\"token\": {" + when + ", \"user\": {\"id\": \"u\"}, \"project\": {\"id\": \"p\"}}",
           std::string(2 << 20, ' ')}) {
    keystone_.answer("GET", {.status = 200, .body = body});
    EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unavailable) << body.substr(0, 100);
  }
  keystone_.answer("GET", {.status = 302, .headers = {{"Location", keystone_.server().url()}}});
  EXPECT_EQ(code(*who_, {.auth_token = "t"}), Errc::unavailable);
}

TEST_F(KeystoneTokens, OddMembersOfATokenGiveNoRights) {
  keystone_.add(
      "t", {.more = {{"roles", {5, {{"name", nullptr}}, {{"id", "admin"}}, "admin"}}, {"system", {{"all", "yes"}}}}});
  const auto who = who_->authenticate({.auth_token = "t"}).value();
  EXPECT_THAT(who.roles, testing::IsEmpty());
  EXPECT_FALSE(who.is_admin);
  EXPECT_EQ(who.system_scope, "");
}

TEST_F(KeystoneTokens, WhatATokenIsBoundToAndCannotBeCheckedHereRefusesIt) {
  keystone_.add("rules",
                {.more = {{"application_credential", {{"id", "a"}, {"access_rules", nlohmann::json::array()}}}}});
  keystone_.add("kerberos", {.more = {{"bind", {{"kerberos", "alice"}}}}});
  keystone_.add("plain", {.more = {{"application_credential", {{"id", "a"}, {"restricted", true}}}}});
  EXPECT_EQ(code(*who_, {.auth_token = "rules"}), Errc::unauthenticated);
  EXPECT_EQ(code(*who_, {.auth_token = "kerberos"}), Errc::unauthenticated);
  EXPECT_TRUE(who_->authenticate({.auth_token = "plain"}));
}

class KeystoneServiceTokens : public KeystoneTokens {
 protected:
  KeystoneServiceTokens() {
    keystone_.add("nova", {.user = "nova", .project = "service", .roles = {"Service"}});
    keystone_.add("impostor", {.user = "mallory", .roles = {"member"}});
    keystone_.add("expired", {.lives_for = 10s});
    clock_.advance(11s);
  }
};

TEST_F(KeystoneServiceTokens, AnExpiredTokenPassesWithOneAndNotWithout) {
  EXPECT_EQ(code(*who_, {.auth_token = "expired"}), Errc::unauthenticated);
  const auto alice = who_->authenticate({.auth_token = "expired", .service_token = "nova"}).value();
  EXPECT_EQ(alice.user_id, "alice");
  EXPECT_FALSE(alice.is_admin);
  EXPECT_THAT(keystone_.last_target(), HasSubstr("allow_expired=1"));
  EXPECT_EQ(code(*who_, {.auth_token = "expired"}), Errc::unauthenticated);
  EXPECT_FALSE(who_->remembered({.auth_token = "expired", .service_token = "nova"}));
}

TEST_F(KeystoneServiceTokens, OneWithoutTheRoleLetsNoExpiredTokenPass) {
  EXPECT_EQ(code(*who_, {.auth_token = "expired", .service_token = "impostor"}), Errc::unauthenticated);
  EXPECT_THAT(keystone_.last_target(), testing::Not(HasSubstr("allow_expired")));
}

TEST_F(KeystoneServiceTokens, ABadOneRefusesTheRequestHoweverGoodTheUsersTokenIs) {
  keystone_.add("t", {});
  EXPECT_EQ(code(*who_, {.auth_token = "t", .service_token = "unknown"}), Errc::unauthenticated);
  ASSERT_TRUE(who_->authenticate({.auth_token = "t"}));
  EXPECT_FALSE(who_->remembered({.auth_token = "t", .service_token = "unknown"}));
}

TEST_F(KeystoneServiceTokens, OneWithoutTheRoleIsLetThroughUnlessTheRoleIsRequired) {
  keystone_.add("t", {});
  const Presented presented{.auth_token = "t", .service_token = "impostor"};
  EXPECT_TRUE(who_->authenticate(presented));
  EXPECT_TRUE(who_->remembered(presented));
  const auto strict = make([](auto& options) { options.service_token_roles_required = true; });
  EXPECT_EQ(code(*strict, presented), Errc::unauthenticated);
  ASSERT_TRUE(strict->authenticate({.auth_token = "t"}));
  EXPECT_FALSE(strict->remembered(presented));
  EXPECT_TRUE(strict->authenticate({.auth_token = "t", .service_token = "nova"}));
}

TEST_F(KeystoneServiceTokens, AServiceTokenAloneIsNoIdentity) {
  EXPECT_EQ(code(*who_, {.service_token = "nova"}), Errc::unauthenticated);
}

TEST_F(KeystoneTokens, TheChallengeNamesTheKeystoneOfTheClients) {
  EXPECT_EQ(who_->challenge(), "Keystone uri=\"" + keystone_.server().url() + "\"");
  const auto other = make([](auto& options) { options.www_authenticate_uri = "https://keystone.example/v3"; });
  EXPECT_EQ(other->challenge(), "Keystone uri=\"https://keystone.example/v3\"");
  EXPECT_TRUE(who_->blocks());
}

TEST(KeystoneTime, IsReadInTheShapesThatItIsWrittenIn) {
  const auto time = [](std::string_view text) {
    const auto read = parse_keystone_time(text);
    return read ? base::to_iso8601(*read) : "none";
  };
  EXPECT_EQ(time("2026-11-22T21:56:06.501236Z"), "2026-11-22T21:56:06.501236");
  EXPECT_EQ(time("2026-11-22T21:56:06Z"), "2026-11-22T21:56:06.000000");
  EXPECT_EQ(time("2028-02-29T00:00:00.5"), "2028-02-29T00:00:00.500000");
  EXPECT_EQ(time("2026-11-22T21:56:06.1234567890+00:00"), "2026-11-22T21:56:06.123456");
  for (const char* bad : {"", "2026-11-22", "2026-02-30T00:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T21:56:06.Z",
                          "2026-11-22T21:56:06+01:00", "2026-11-22T21:56:0xZ", "2026-11-22 21:56:06Z"}) {
    EXPECT_EQ(time(bad), "none") << bad;
  }
}

}  // namespace
}  // namespace imagecache::identity
