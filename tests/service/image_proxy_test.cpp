// What goes through: versions, links, headers, and a line of log.

#include "base/log.hpp"
#include "service/images.hpp"

namespace imagecache::test {
namespace {

const std::string list_of_zed =
    R"({"versions": [{"id": "v2.15", "status": "CURRENT", "links": [{"rel": "self", "href": "http://HOST/v2/"}]}, )"
    R"({"id": "v2.13", "status": "SUPPORTED", "links": [{"rel": "self", "href": "http://HOST/v2/"}]}]})";

std::string with_host(std::string text, const std::string& host) {
  for (std::size_t at = 0; (at = text.find("HOST")) != std::string::npos;) text.replace(at, 4, host);
  return text;
}

TEST(ImageProxy, TheVersionListGainsTheCachesVersionsAndLeadsHere) {
  Daemon daemon;
  const std::string origin_host = daemon.origin.url().substr(7);
  for (const auto& [path, status] : {std::pair("/", 300), std::pair("/versions", 200), std::pair("/v1/images", 300)}) {
    daemon.origin.answer("GET", path,
                         {.status = status,
                          .headers = {{"Content-Type", "application/json"}},
                          .body = with_host(list_of_zed, origin_host)});
    const auto answer = daemon.image("GET", path);
    EXPECT_EQ(answer.status, status) << path;
    const auto versions = json::parse(answer.body)["versions"];
    ASSERT_EQ(versions.size(), 5U) << answer.body;
    EXPECT_EQ(versions[0]["id"], "v2.18");
    EXPECT_EQ(versions[0]["status"], "CURRENT");
    EXPECT_EQ(versions[2]["id"], "v2.15");
    EXPECT_EQ(versions[2]["status"], "SUPPORTED");
    EXPECT_EQ(answer.body.find(origin_host), std::string::npos) << answer.body;
  }
}

TEST(ImageProxy, AVersionListThatIsNoneIsPassedOn) {
  Daemon daemon;
  daemon.origin.answer("GET", "/versions", {.status = 502, .body = "<html>away</html>"});
  const auto answer = daemon.image("GET", "/versions");
  EXPECT_EQ(answer.status, 502);
  EXPECT_EQ(answer.body, "<html>away</html>");
}

TEST(ImageProxy, AVersionOfTheCacheIsHiddenFromAnOriginThatHasNone) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 61)});
  EXPECT_EQ(json::parse(daemon.image("GET", "/v2.16/images/" + id + "?a=b").body)["id"], id);
  EXPECT_EQ(daemon.origin.last_request("GET", describe_path(id))->target, describe_path(id) + "?a=b");
  EXPECT_EQ(daemon.image("GET", "/v2.7/schemas").status, 200);
  EXPECT_TRUE(daemon.origin.last_request("GET", "/v2.7/schemas"));
}

TEST(ImageProxy, NobodySaysHimselfWhoWasAuthenticated) {
  Daemon daemon;
  daemon.image("GET", "/v2/images",
               {"X-Roles: admin", "X-User-Id: u", "X_Project_Id: p", "X-Identity-Status: Confirmed", "X-Auth-Token: t",
                "X-Service-Token: s"});
  const auto seen = daemon.origin.last_request("GET", "/v2/images");
  ASSERT_TRUE(seen);
  for (const auto* name : {"x-roles", "x-user-id", "x_project_id", "x-identity-status"}) {
    EXPECT_EQ(seen->header(name), "") << name;
  }
  EXPECT_EQ(seen->header("x-auth-token"), "t");
  EXPECT_EQ(seen->header("x-service-token"), "s");
  EXPECT_EQ(seen->header("host"), "test");  // links in the origin's answers lead back to where the client came
}

TEST(ImageProxy, NewDataForAnImageDropsTheOldBeforeTheAnswer) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 62)});
  warm(daemon, id);
  EXPECT_EQ(daemon.image("PUT", file_path(id), {"Content-Type: application/octet-stream"}, "new").status, 204);
  EXPECT_FALSE(std::filesystem::exists(daemon.cache_dir() / id));
}

TEST(ImageProxy, WhatWasSentIsLoggedWithGlancesSixFields) {
  Daemon daemon({.service = "image_send_log = true\n"});
  const auto id = daemon.origin.add({.content = Content::generated(mib, 63), .owner = "the-owner"});
  const auto log_file = daemon.directory / "send.log";
  ASSERT_TRUE(base::log::setup({.level = base::log::Level::info, .log_file = log_file.native()}));
  warm(daemon, id);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"X-Auth-Token: ann:project-7"}).status, 200);
  const std::string expected = "{\"bytes_sent\": 1048576, \"image_id\": \"" + id +
                               "\", \"owner_id\": \"the-owner\", \"receiver_tenant_id\": \"project-7\", "
                               "\"receiver_user_id\": \"ann\", \"destination_ip\": \"127.0.0.1\"}";
  std::string log;
  do {
    std::ifstream file(log_file);
    log.assign(std::istreambuf_iterator<char>(file), {});
  } while (log.find("ann") == std::string::npos);
  ASSERT_TRUE(base::log::setup({.level = base::log::Level::warning, .log_file = ""}));
  EXPECT_NE(log.find(expected), std::string::npos) << log;
}

}  // namespace
}  // namespace imagecache::test
