// Tokens of the service's own, against a scripted Keystone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "identity/keystone.hpp"
#include "scripted_keystone.hpp"

namespace imagecache::identity {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;

class OwnToken : public testing::Test {
 protected:
  base::ManualClock clock_;
  ScriptedKeystone keystone_{clock_};
  ServiceToken token_{keystone_.credentials(), &clock_};
};

TEST_F(OwnToken, IsAskedForOnceAndKept) {
  EXPECT_EQ(token_.get().value(), "own-1");
  EXPECT_EQ(token_.get().value(), "own-1");
  EXPECT_EQ(keystone_.own_tokens_asked(), 1U);
}

TEST_F(OwnToken, ManyWhoAskAtOnceMakeOneRequest) {
  const auto gate = std::make_shared<test::Gate>();
  keystone_.hold("POST", gate);
  std::vector<std::jthread> threads;
  std::vector<std::string> got(8);
  for (auto& mine : got) threads.emplace_back([&] { mine = token_.get().value_or("none"); });
  ASSERT_TRUE(gate->wait_arrived());
  gate->open();
  threads.clear();
  EXPECT_THAT(got, testing::Each("own-1"));
  EXPECT_EQ(keystone_.own_tokens_asked(), 1U);
}

TEST_F(OwnToken, IsRenewedWellBeforeItExpires) {
  EXPECT_EQ(token_.get().value(), "own-1");
  clock_.advance(44min);
  EXPECT_EQ(token_.get().value(), "own-1");
  clock_.advance(2min);
  EXPECT_EQ(token_.get().value(), "own-2");
}

TEST_F(OwnToken, WhileOneRenewsTheOthersUseTheOldOne) {
  EXPECT_EQ(token_.get().value(), "own-1");
  clock_.advance(50min);
  const auto gate = std::make_shared<test::Gate>();
  keystone_.hold("POST", gate);
  std::string renewed;
  std::jthread renewing([&] { renewed = token_.get().value_or("none"); });
  ASSERT_TRUE(gate->wait_arrived());
  EXPECT_EQ(token_.get().value(), "own-1");
  gate->open();
  renewing.join();
  EXPECT_EQ(renewed, "own-2");
}

TEST_F(OwnToken, AnOldOneIsUsedOnWhileKeystoneIsAwayAndNotBeyondItsEnd) {
  EXPECT_EQ(token_.get().value(), "own-1");
  keystone_.server().go_down();
  clock_.advance(50min);
  EXPECT_EQ(token_.get().value(), "own-1");
  clock_.advance(11min);
  const auto gone = token_.get();
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Errc::unavailable);
  keystone_.server().come_back();
  EXPECT_EQ(token_.get().value(), "own-2");
}

TEST_F(OwnToken, AfterARefusalAnotherIsAskedFor) {
  EXPECT_EQ(token_.get().value(), "own-1");
  token_.refused("some other");
  EXPECT_EQ(token_.get().value(), "own-1");
  clock_.advance(10s);
  token_.refused("own-1");
  EXPECT_EQ(token_.get().value(), "own-2");
  token_.refused("own-1");
  EXPECT_EQ(token_.get().value(), "own-2");
  token_.refused("own-2");  // a Keystone that takes none of its tokens is not asked for ever more of them
  EXPECT_EQ(token_.get().value(), "own-2");
}

TEST_F(OwnToken, AWrongPasswordIsNotTriedAgainAtOnce) {
  keystone_.answer("POST", {.status = 401});
  for (int i = 0; i < 5; ++i) {
    const auto refused = token_.get();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unauthenticated);
  }
  EXPECT_EQ(keystone_.own_tokens_asked(), 1U);
  clock_.advance(11s);
  keystone_.answer("POST", {}, 0);
  EXPECT_EQ(token_.get().value(), "own-1");
}

TEST_F(OwnToken, AServerThatIsBusyIsAskedAgainAFewTimes) {
  keystone_.answer("POST", {.status = 503}, 3);
  EXPECT_EQ(token_.get().value(), "own-1");
  EXPECT_EQ(keystone_.own_tokens_asked(), 4U);
}

TEST_F(OwnToken, OneThatStaysAwayIsProbedByOneRequestAtATime) {
  keystone_.answer("POST", {.status = 503});
  EXPECT_EQ(token_.get().error().code, Errc::unavailable);
  EXPECT_EQ(keystone_.own_tokens_asked(), 4U);
  EXPECT_THAT(token_.get().error().message, HasSubstr("status 503"));
  EXPECT_EQ(keystone_.own_tokens_asked(), 5U);
  keystone_.answer("POST", {}, 0);
  EXPECT_EQ(token_.get().value(), "own-1");
}

TEST_F(OwnToken, AnAnswerWithoutATokenIsNotBelieved) {
  for (const auto& answer :
       std::vector<test::Answer>{{.status = 200, .body = "{}"},
                                 {.status = 201, .body = "{}"},
                                 {.status = 201, .headers = {{"X-Subject-Token", "t"}}, .body = "<html>"},
                                 {.status = 302, .headers = {{"Location", "/elsewhere"}}},
                                 {.status = 300}}) {
    keystone_.answer("POST", answer);
    const auto got = token_.get();
    ASSERT_FALSE(got) << answer.status << answer.body;
    EXPECT_EQ(got.error().code, Errc::unavailable);
  }
}

TEST_F(OwnToken, NamesTheProjectThatKeystoneGaveItFor) {
  EXPECT_EQ(token_.project_id(), "");
  ASSERT_TRUE(token_.get());
  EXPECT_FALSE(token_.project_id().empty());
}

TEST_F(OwnToken, APasswordIsSentAsKeystoneauthSendsIt) {
  ASSERT_TRUE(token_.get());
  EXPECT_EQ(keystone_.last_question(), json::parse(R"({"auth": {
    "identity": {"methods": ["password"], "password": {"user":
      {"name": "glance", "password": "secret", "domain": {"name": "Default"}}}},
    "scope": {"project": {"name": "service", "domain": {"name": "Default"}}}}})"));
}

TEST_F(OwnToken, IdsGoBeforeNamesAndASystemScopeInPlaceOfAProject) {
  auto c = keystone_.credentials();
  c.user_id = "u1";
  c.project_name.clear();
  c.system_scope = "all";
  ServiceToken system(c, &clock_);
  ASSERT_TRUE(system.get());
  EXPECT_EQ(keystone_.last_question(), json::parse(R"({"auth": {
    "identity": {"methods": ["password"], "password": {"user": {"id": "u1", "password": "secret"}}},
    "scope": {"system": {"all": true}}}})"));
}

TEST_F(OwnToken, AnApplicationCredentialIsSentWithoutAScope) {
  ServiceToken token({.auth_url = keystone_.server().url() + "/v3/",
                      .application_credential_id = "ac",
                      .application_credential_secret = "s"},
                     &clock_);
  ASSERT_TRUE(token.get());
  EXPECT_EQ(keystone_.last_question(), json::parse(R"({"auth": {"identity": {
    "methods": ["application_credential"], "application_credential": {"id": "ac", "secret": "s"}}}})"));
}

TEST_F(OwnToken, WhatIsMissingIsSaidBeforeAnybodyIsAsked) {
  const auto missing = [&](auto change) {
    auto c = keystone_.credentials();
    change(c);
    const auto checked = check_credentials(c, "keystone_authtoken");
    return checked ? std::string() : checked.error().message;
  };
  EXPECT_EQ(missing([](auto&) {}), "");
  EXPECT_EQ(missing([](auto& c) { c.auth_url = ""; }), "[keystone_authtoken] auth_url is not set: where is Keystone?");
  EXPECT_THAT(missing([](auto& c) { c.auth_url = "ftp://host"; }), HasSubstr("only http and https"));
  EXPECT_THAT(missing([](auto& c) { c.auth_url = "http://me:pw@host"; }), HasSubstr("has a user name in it"));
  EXPECT_THAT(missing([](auto& c) { c.username = ""; }), HasSubstr("username"));
  EXPECT_THAT(missing([](auto& c) { c.password = ""; }), HasSubstr("password is not set"));
  EXPECT_THAT(missing([](auto& c) { c.user_domain_name = ""; }), HasSubstr("user_domain_name"));
  EXPECT_THAT(missing([](auto& c) { c.project_domain_name = ""; }), HasSubstr("project_domain_name"));
  EXPECT_THAT(missing([](auto& c) { c.project_name = ""; }), HasSubstr("neither project_name"));
  EXPECT_THAT(missing([](auto& c) { c.system_scope = "all"; }), HasSubstr("one scope"));
  EXPECT_THAT(missing([](auto& c) { c.application_credential_id = "a"; }), HasSubstr("application_credential_secret"));
  EXPECT_EQ(keystone_.own_tokens_asked(), 0U);
}

}  // namespace
}  // namespace imagecache::identity
