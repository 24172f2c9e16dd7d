// /v2/cache, its older relatives and /v1/images, through the whole daemon. Bodies are those that a real glance-api
// gave.

#include "service/images.hpp"

namespace imagecache::test {
namespace {

const std::string nobody = "00000000-0000-0000-0000-000000000000";
const std::vector<std::string> curl = {"Accept: */*"};

TEST(CacheManagement, TheListIsGlances) {
  Daemon daemon;
  EXPECT_EQ(daemon.image("GET", "/v2/cache").body, "{\"cached_images\": [], \"queued_images\": []}");
  const auto id = daemon.origin.add({.content = Content::generated(mib, 71)});
  warm(daemon, id);
  const auto answer = daemon.image("GET", "/v2.16/cache");
  EXPECT_EQ(answer.header("content-type"), "application/json");
  const auto image = json::parse(answer.body)["cached_images"][0];
  EXPECT_EQ(image["image_id"], id);
  EXPECT_EQ(image["size"], mib);
  EXPECT_EQ(image["hits"], 0);
  EXPECT_TRUE(image["last_accessed"].is_number_float()) << answer.body;
  EXPECT_EQ(image.size(), 5U);
  EXPECT_EQ(daemon.image("GET", "/v2/cache", curl, "{}").status, 400);
}

TEST(CacheManagement, QueueingFetchesWhatIsThereAndRefusesTheRest) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 72)});
  const auto queued = daemon.image("PUT", "/v2/cache/" + id);
  EXPECT_EQ(queued.status, 202);
  EXPECT_EQ(queued.header("content-type"), "text/html; charset=UTF-8");
  EXPECT_EQ(queued.header("content-length"), "0");
  while (!daemon.service->images().is_cached(id)) std::this_thread::yield();
  EXPECT_EQ(daemon.image("PUT", "/v2/cache/" + id).status, 202);

  const auto unknown = daemon.image("PUT", "/v2/cache/" + nobody, curl);
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.body.size(), 175U);
  EXPECT_NE(unknown.body.find("  Image " + nobody + " not found.<br /><br />"), std::string::npos) << unknown.body;
  const auto empty = daemon.origin.add({.content = Content::of(""), .status = "queued"});
  const auto inactive = daemon.image("PUT", "/v2/cache/" + empty, curl);
  EXPECT_EQ(inactive.status, 400);
  EXPECT_EQ(inactive.body.size(), 185U);
}

TEST(CacheManagement, DeletingKnowsImagesThatAreNoMore) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 73)});
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + id).status, 204);
  warm(daemon, id);
  daemon.origin.remove(id);
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + id).status, 204);
  EXPECT_FALSE(daemon.service->images().is_cached(id));
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + id).status, 404);
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/cache.db").status, 404);
  EXPECT_TRUE(std::filesystem::exists(daemon.cache_dir() / "cache.db"));
}

TEST(CacheManagement, ClearingHasATarget) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 74)});
  warm(daemon, id);
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache", {"x-image-cache-clear-target: Queue"}).status, 204);
  EXPECT_TRUE(daemon.service->images().is_cached(id));
  for (const auto* wrong : {"bogus", "both", "cached"}) {
    const auto bad =
        daemon.image("DELETE", "/v2/cache", {std::string("x-image-cache-clear-target: ") + wrong, curl[0]});
    EXPECT_EQ(bad.status, 400);
    EXPECT_EQ(bad.body.size(), 238U);
  }
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache", {"x-image-cache-clear-target: cache"}).status, 204);
  EXPECT_FALSE(daemon.service->images().is_cached(id));
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache").status, 204);
}

TEST(CacheManagement, WrongMethodsAreToldTheRightOnes) {
  Daemon daemon;
  const auto post = daemon.image("POST", "/v2/cache", curl);
  EXPECT_EQ(post.status, 405);
  EXPECT_EQ(post.header("allow"), "GET, DELETE");
  EXPECT_EQ(post.body.size(), 188U);
  const auto get = daemon.image("GET", "/v2/cache/" + nobody, curl);
  EXPECT_EQ(get.header("allow"), "DELETE, PUT");
  EXPECT_EQ(get.body.size(), 187U);
  EXPECT_EQ(daemon.image("GET", "/v2/cache/prune").header("allow"), "POST");
  EXPECT_EQ(daemon.image("GET", "/v2/cache/").status, 404);
}

TEST(CacheManagement, CleanPruneAndNodes) {
  Daemon daemon;
  EXPECT_EQ(daemon.image("POST", "/v2.18/cache/prune").body, "{\"total_files_pruned\": 0, \"total_bytes_pruned\": 0}");
  const auto clean = daemon.image("POST", "/v2/cache/clean");
  EXPECT_EQ(clean.status, 200);
  EXPECT_EQ(clean.body, "");
  EXPECT_EQ(daemon.image("GET", "/v2/cache/nodes/" + nobody).status, 409);
}

TEST(CacheManagement, ThePolicyOfTheOperatorDecides) {
  TempDir directory;
  const auto policy = directory.path() / "policy.yaml";
  std::ofstream(policy) << "\"cache_list\": \"!\"\n\"cache_delete\": \"project_id:%(owner)s\"\n"
                           "\"manage_image_cache\": \"!\"\n\"cache_image\": \"role:admin\"\n";
  Daemon daemon({.service = "[oslo_policy]\npolicy_file = " + policy.native() + "\nenforce_new_defaults = true\n"});
  const auto id = daemon.origin.add({.content = Content::generated(mib, 75), .owner = "p1"});
  warm(daemon, id);
  const auto list = daemon.image("GET", "/v2/cache", curl);
  EXPECT_EQ(list.status, 403);
  EXPECT_NE(list.body.find("You are not authorized to complete cache_list action."), std::string::npos) << list.body;
  // The image is looked up before the policy is asked.
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + nobody, {"X-Auth-Token: u:p2"}).status, 404);
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + id, {"X-Auth-Token: u:p2"}).status, 403);
  EXPECT_TRUE(daemon.service->images().is_cached(id));
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + id, {"X-Auth-Token: u:p1"}).status, 204);
  const auto legacy = daemon.image("GET", "/v2/cached_images");
  EXPECT_EQ(legacy.status, 403);
}

TEST(CacheManagement, TheOlderRoutesAnswerAsTheirMiddleware) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 76)});
  EXPECT_EQ(daemon.image("GET", "/v2/cached_images").body, "{\"cached_images\": []}");
  warm(daemon, id);
  EXPECT_EQ(json::parse(daemon.image("GET", "/v2/cached_images").body)["cached_images"][0]["image_id"], id);
  EXPECT_EQ(daemon.image("GET", "/v2/queued_images").body, "{\"queued_images\": []}");
  for (const auto* wrong : {"cache.db", "queue", "not-a-uuid"}) {
    const auto gone = daemon.image("DELETE", std::string("/v2/cached_images/") + wrong);
    EXPECT_EQ(gone.status, 200);
    EXPECT_EQ(gone.body, "null");
    EXPECT_EQ(daemon.image("PUT", std::string("/v2/queued_images/") + wrong).body, "null");
  }
  EXPECT_TRUE(std::filesystem::exists(daemon.cache_dir() / "cache.db"));
  EXPECT_EQ(daemon.image("PUT", "/v2/queued_images/" + nobody).body, "null");
  EXPECT_TRUE(daemon.service->images().queued().empty());
  EXPECT_EQ(daemon.image("DELETE", "/v2/queued_images/" + id).body, "null");
  EXPECT_EQ(daemon.image("DELETE", "/v2/queued_images").body, "{\"num_deleted\": 0}");
  EXPECT_EQ(daemon.image("DELETE", "/v2/cached_images").body, "{\"num_deleted\": 1}");
  EXPECT_FALSE(daemon.service->images().is_cached(id));
  EXPECT_EQ(daemon.image("DELETE", "/v2/cached_images/" + id).body, "null");
}

TEST(ImageManagement, ImagesArePagedWithTheirPins) {
  Daemon daemon;
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(daemon.origin.add({.content = Content::generated(mib, 77)}));
    if (i > 0) warm(daemon, ids.back());
  }
  EXPECT_EQ(daemon.status("PUT", "/v1/images/" + ids[0] + "/pin").status, 204);
  EXPECT_EQ(daemon.status("PUT", "/v1/images/" + ids[1] + "/pin").status, 204);
  EXPECT_EQ(daemon.status("PUT", "/v1/images/cache.db/pin").status, 400);
  std::ranges::sort(ids);
  std::vector<std::string> seen;
  std::map<std::string, int> states;
  int pinned = 0;
  for (std::string marker;;) {
    const auto page =
        json::parse(daemon.status("GET", "/v1/images?limit=2" + (marker.empty() ? "" : "&marker=" + marker)).body);
    if (page["images"].empty()) break;
    ASSERT_LE(page["images"].size(), 2U);
    for (const auto& image : page["images"]) {
      seen.push_back(image["image_id"]);
      ++states[image["state"]];
      pinned += image["pinned"] == true ? 1 : 0;
    }
    marker = seen.back();
  }
  EXPECT_EQ(seen, ids);
  EXPECT_EQ(states["cached"], 2);
  EXPECT_EQ(states["pinned"], 1);
  EXPECT_EQ(pinned, 2);
  for (const auto& id : ids) EXPECT_EQ(daemon.status("DELETE", "/v1/images/" + id + "/pin").status, 204);
  EXPECT_TRUE(daemon.service->images().pinned().empty());
  EXPECT_EQ(daemon.status("GET", "/v1/images?limit=0").status, 400);
}

}  // namespace
}  // namespace imagecache::test
