// Who may manage the cache, where tokens are checked by a server. What the calls then do is told in tests/service.
#include "api/cache_management.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "support/temp_dir.hpp"
#include "unit/api/asked.hpp"

namespace imagecache::api {
namespace {

class NoOrigin final : public origin::Origin {
 public:
  Result<origin::ImageInfo> describe(const std::string& id, const base::RequestContext&, std::stop_token) override {
    return fail(Errc::not_found, "image " + id + ": not found");
  }
  Result<void> authorize_download(const std::string& id, const base::RequestContext&, std::stop_token) override {
    return fail(Errc::not_found, "image " + id + ": not found");
  }
  Result<void> stream(const std::string& id, const origin::StreamFrom&, const base::RequestContext&,
                      const origin::StreamBegin&, const origin::ByteSink&, std::stop_token) override {
    return fail(Errc::not_found, "image " + id + ": not found");
  }
  std::string name() const override { return "none"; }
};

/// A Keystone behind a slow line: it must be asked on the pool, unless it remembers.
class Slow final : public identity::Authenticator {
 public:
  Result<base::RequestContext> authenticate(const identity::Presented& presented) const override {
    ++asked;
    pool_thread = std::this_thread::get_id();
    if (presented.auth_token == "away") return fail(Errc::unavailable, "Keystone cannot be reached");
    if (presented.auth_token != "member") return fail(Errc::unauthenticated, "the token is not valid");
    return who({"member"});
  }
  bool blocks() const override { return true; }
  std::optional<base::RequestContext> remembered(const identity::Presented& presented) const override {
    if (presented.auth_token == "admin") return who({"admin"});
    return std::nullopt;
  }
  std::string challenge() const override { return "Keystone uri=\"http://keystone:5000\""; }

  mutable std::atomic<int> asked = 0;
  mutable std::thread::id pool_thread;

 private:
  static base::RequestContext who(std::vector<std::string> roles) {
    base::RequestContext context;
    context.request_id = "req-ca5e0000-0000-4000-8000-000000000000";
    context.roles = std::move(roles);
    return context;
  }
};

class CacheManagementTest : public ::testing::Test {
 protected:
  CacheManagementTest() { EXPECT_TRUE(cache_.recover()); }
  test::Asked call(std::string method, std::string path, const std::string& token,
                   CacheManagement::Options options = {.legacy = true}) {
    CacheManagement management(options, cache_, keystone_, policy_, pool_);
    test::Asked exchange(std::move(method), {{"X-Auth-Token", token}, {"Accept", "*/*"}}, path);
    ours_ = io_.run(management.handle(exchange, std::move(path)));
    return exchange;
  }

  imagecache::test::TempDir directory_;
  NoOrigin origin_;
  Slow keystone_;
  base::SystemClock clock_;
  events::Counters counters_{};
  base::BlockingPool pool_{{.name = "test", .threads = 1}};
  image_cache::ImageCache cache_{
      {.directory = directory_.path().native()}, origin_, pool_, pool_, pool_, clock_, counters_};
  identity::Policy policy_ = *identity::Policy::load({}, identity::image_cache_policies());
  base::IoThreads io_{1};
  bool ours_ = false;
};

std::string header(const test::Asked& exchange, const std::string& name) {
  const auto found = std::ranges::find(exchange.answer->headers, name, &http::Header::first);
  return found == exchange.answer->headers.end() ? "" : found->second;
}

TEST_F(CacheManagementTest, AStrangerIsToldWhereTokensAreHad) {
  for (const auto* path : {"/v2/cache", "/v2/cached_images", "/v2/cache/prune"}) {
    const auto exchange = call(path == std::string("/v2/cache/prune") ? "POST" : "GET", path, "nobody");
    ASSERT_TRUE(exchange.answer) << path;
    EXPECT_EQ(exchange.answer->status, 401U);
    EXPECT_EQ(header(exchange, "WWW-Authenticate"), "Keystone uri=\"http://keystone:5000\"");
    EXPECT_NE(exchange.answer->body.find("could not verify that you are authorized"), std::string::npos);
  }
}

TEST_F(CacheManagementTest, NobodyIsRefusedForKeystonesAbsence) {
  const auto exchange = call("GET", "/v2/cache", "away");
  EXPECT_EQ(exchange.answer->status, 503U);
  EXPECT_EQ(header(exchange, "Retry-After"), "1");
}

TEST_F(CacheManagementTest, AMemberIsKnownAndNotAllowed) {
  const auto exchange = call("GET", "/v2/cache", "member");
  EXPECT_EQ(exchange.answer->status, 403U);
  EXPECT_NE(exchange.answer->body.find("You are not authorized to complete cache_list action."), std::string::npos);
  EXPECT_EQ(keystone_.asked, 1);
  EXPECT_NE(keystone_.pool_thread, std::this_thread::get_id());
  // An image that is not there is looked for before the policy is asked.
  EXPECT_EQ(call("PUT", "/v2/cache/00000000-0000-0000-0000-000000000000", "member").answer->status, 404U);
}

TEST_F(CacheManagementTest, WhoIsRememberedCostsNoQuestion) {
  const auto exchange = call("GET", "/v2/cache/nodes/00000000-0000-0000-0000-000000000000", "admin");
  EXPECT_EQ(exchange.answer->status, 409U);
  EXPECT_EQ(keystone_.asked, 0);
}

TEST_F(CacheManagementTest, WithoutACacheTheOriginIsAskedOrAllAreToldSo) {
  EXPECT_FALSE(call("GET", "/v2/cache", "admin", {.enabled = false}).answer);
  EXPECT_FALSE(ours_);
  for (const auto* path : {"/v2/cache", "/v2/cached_images"}) {
    const auto alone = call("GET", path, "admin", {.enabled = false, .legacy = true, .answers_when_disabled = true});
    ASSERT_TRUE(alone.answer);
    EXPECT_EQ(alone.answer->status, 404U);
    EXPECT_NE(alone.answer->body.find("Caching via API is not supported at this site."), std::string::npos);
  }
}

TEST_F(CacheManagementTest, OtherPathsAreNobodysHere) {
  for (const auto* path : {"/v2/images", "/v2/cached", "/v2/cached_images/a/b", "/v2/cachex"}) {
    EXPECT_FALSE(call("GET", path, "admin").answer) << path;
  }
  EXPECT_FALSE(call("PUT", "/v2/cached_images/00000000-0000-0000-0000-000000000000", "admin").answer);
  EXPECT_FALSE(call("GET", "/v2/cached_images", "admin", {.legacy = false}).answer);
}

TEST_F(CacheManagementTest, WhileTheDirectoryIsStillReadAListIsRefusedAndNotCutShort) {
  image_cache::ImageCache loading(
      {.directory = (directory_ / "loading").native(), .load_wait = std::chrono::seconds(0)}, origin_, pool_, pool_,
      pool_, clock_, counters_);
  CacheManagement management({.legacy = true}, loading, keystone_, policy_, pool_);
  for (const auto* path : {"/v2/cache", "/v2/cached_images"}) {
    test::Asked exchange("GET", {{"X-Auth-Token", "admin"}, {"Accept", "*/*"}}, path);
    EXPECT_TRUE(io_.run(management.handle(exchange, path)));
    EXPECT_EQ(exchange.answer->status, 503) << path;
    EXPECT_NE(exchange.answer->body.find("still being read"), std::string::npos) << exchange.answer->body;
  }
  test::Asked exchange("DELETE", {{"X-Auth-Token", "admin"}, {"Accept", "*/*"}}, "/v2/cache");
  EXPECT_TRUE(io_.run(management.handle(exchange, "/v2/cache")));
  EXPECT_EQ(exchange.answer->status, 503);
}

}  // namespace
}  // namespace imagecache::api
