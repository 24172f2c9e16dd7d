#include "api/version_list.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace imagecache::api {
namespace {

using nlohmann::json;

/// Glance's list from v2.`newest` down, without the versions of its cache.
json glance_list(int newest, const std::string& authority) {
  json versions = json::array();
  for (int minor = newest; minor >= 0; --minor) {
    if (minor == 14 || minor == 16 || minor == 18) continue;
    versions.push_back({{"id", "v2." + std::to_string(minor)},
                        {"status", minor == newest ? "CURRENT" : "SUPPORTED"},
                        {"links", {{{"rel", "self"}, {"href", "http://" + authority + "/v2/"}}}}});
  }
  return {{"versions", versions}};
}

TEST(VersionList, GainsWhatTheCacheAdds) {
  const auto body = with_cache_versions(glance_list(15, "cache:9292").dump(), "glance:9292", "cache:9292");
  ASSERT_TRUE(body);
  const auto versions = json::parse(*body)["versions"];
  std::string line;
  for (const auto& version : versions) {
    line += version["id"].get<std::string>() + " " + version["status"].get<std::string>() + ", ";
    EXPECT_EQ(version["links"][0]["href"], "http://cache:9292/v2/");
  }
  EXPECT_TRUE(line.starts_with("v2.18 CURRENT, v2.16 SUPPORTED, v2.15 SUPPORTED, v2.14 SUPPORTED, v2.13 SUPPORTED, "))
      << line;
  EXPECT_TRUE(line.ends_with("v2.1 SUPPORTED, v2.0 SUPPORTED, ")) << line;
}

TEST(VersionList, TheHighestStaysCurrentWhereTheOriginKnowsMore) {
  const auto body = with_cache_versions(glance_list(19, "cache").dump(), "glance:9292", "cache");
  ASSERT_TRUE(body);
  const auto versions = json::parse(*body)["versions"];
  EXPECT_EQ(versions[0]["id"], "v2.19");
  EXPECT_EQ(versions[0]["status"], "CURRENT");
  EXPECT_EQ(versions[1]["id"], "v2.18");
  EXPECT_EQ(versions[1]["status"], "SUPPORTED");
}

TEST(VersionList, LinksToTheOriginLeadHere) {
  const auto body = with_cache_versions(glance_list(15, "glance:9292").dump(), "glance:9292", "cache:80");
  ASSERT_TRUE(body);
  EXPECT_EQ(body->find("glance:9292"), std::string::npos);
  const auto elsewhere = with_cache_versions(glance_list(15, "public.example").dump(), "glance:9292", "cache:80");
  ASSERT_TRUE(elsewhere);
  EXPECT_EQ(json::parse(*elsewhere)["versions"][0]["links"][0]["href"], "http://public.example/v2/");
}

TEST(VersionList, WhatIsCompleteOrNoListIsLeftAlone) {
  auto full = json::parse(*with_cache_versions(glance_list(15, "a").dump(), "g", "a"));
  EXPECT_FALSE(with_cache_versions(full.dump(), "g", "a"));
  for (const auto* other : {"", "<html>", "[]", "{\"versions\": 3}", "{\"versions\": []}", "{\"versions\": [1, null]}",
                            "{\"versions\": [{\"id\": 3}]}"}) {
    EXPECT_FALSE(with_cache_versions(other, "g", "a")) << other;
  }
}

TEST(VersionList, DepthIsNobodysVersion) {
  const std::string deep =
      "{\"versions\": [{\"id\": \"v2.1\"}], \"x\": " + std::string(400'000, '[') + std::string(400'000, ']') + "}";
  EXPECT_FALSE(with_cache_versions(deep, "g", "a"));
}

}  // namespace
}  // namespace imagecache::api
