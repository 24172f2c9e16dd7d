// Quotas of users and of the internal tenant, limits of the volume cache, pins.
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

TEST(VolumeLimits, AQuotaThatIsUsedUpIs413InCindersWords) {
  Daemon daemon;
  const auto image = add_image(daemon, sparse_disk());
  set_quota(daemon, "admin", {{"volumes", 1}});
  ASSERT_EQ(daemon.settle(daemon.create(image)), "available");
  const auto refused = create_request(daemon, image);
  EXPECT_EQ(refused.status, 413);
  EXPECT_EQ(refused.header("retry-after"), "0");
  EXPECT_EQ(message(refused),
            "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.");
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 1U);
  EXPECT_EQ(daemon.volume_files(), 2U);

  set_quota(daemon, "admin", {{"volumes", 10}, {"gigabytes", 2}});
  const auto large = create_request(daemon, image, 2);
  EXPECT_EQ(large.status, 413);
  EXPECT_NE(message(large).find("Requested 2G, quota is 2G and 1G has been consumed."), std::string::npos)
      << large.body;
}

TEST(VolumeLimits, ManyAtOnceNeverPassAQuota) {
  Daemon daemon;
  const auto image = add_image(daemon, sparse_disk());
  set_quota(daemon, "admin", {{"volumes", 3}});
  std::array<int, 12> answers{};
  {
    std::vector<std::jthread> clients;
    for (auto& status : answers) clients.emplace_back([&] { status = create_request(daemon, image).status; });
  }
  EXPECT_EQ(std::ranges::count(answers, 202), 3);
  EXPECT_EQ(std::ranges::count(answers, 413), 9);
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 3U);
}

TEST(VolumeLimits, WhereTheInternalTenantsQuotaIsFullTheUserStillGetsTheVolume) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  set_quota(daemon, internal_project, {{"volumes", 0}});
  const auto id = daemon.create(image);
  ASSERT_EQ(daemon.settle(id), "available") << reason(daemon, id);
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  EXPECT_EQ(daemon.volume_files(), 1U);
  expect_no_image_volume(daemon);
  EXPECT_EQ(daemon.counters().image_volume_quota_refusals, 1U);
  EXPECT_EQ(daemon.counters().volume_uncached, 1U);
}

TEST(VolumeLimits, TheLeastRecentlyUsedImageVolumeMakesRoomForTheNext) {
  Daemon daemon({.backend = "image_volume_cache_enabled = true\nimage_volume_cache_max_count = 2\n"});
  std::array<std::string, 3> raws;
  std::array<std::string, 3> images;
  for (unsigned i = 0; i < 3; ++i) images[i] = add_image(daemon, raws[i] = sparse_disk(i + 1));
  const auto make = [&](unsigned i) {
    const auto id = daemon.create(images[i]);
    EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
    EXPECT_TRUE(holds(daemon.volume_file(id), raws[i], 1));
    return id;
  };
  const auto first = make(0);
  make(1);
  make(0);  // so the second is the one that was not used for longest
  make(2);
  const json kept = image_volumes(daemon);
  ASSERT_EQ(kept.size(), 2U);
  for (const auto& row : kept) EXPECT_NE(row["image_id"], images[1]);
  EXPECT_EQ(daemon.counters().image_volume_evictions, 1U);
  EXPECT_EQ(in_use(daemon, internal_project, "volumes"), 2U);
  EXPECT_TRUE(holds(daemon.volume_file(first), raws[0], 1));
  EXPECT_EQ(daemon.volume_files(), 4U + 2U);
}

TEST(VolumeLimits, WhatIsPinnedStaysAndTheNextIsNotKept) {
  Daemon daemon({.backend = "image_volume_cache_enabled = true\nimage_volume_cache_max_size_gb = 1\n"});
  const auto first = add_image(daemon, sparse_disk(1));
  ASSERT_EQ(daemon.settle(daemon.create(first)), "available");
  const std::string kept = image_volumes(daemon)[0]["id"];
  EXPECT_EQ(daemon.status("PUT", "/v1/image-volumes/" + kept + "/pin").status, 204);
  EXPECT_EQ(image_volumes(daemon)[0]["pinned"], true);

  const auto second = add_image(daemon, sparse_disk(2));
  const auto id = daemon.create(second);
  EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
  EXPECT_TRUE(holds(daemon.volume_file(id), sparse_disk(2), 1));
  EXPECT_EQ(daemon.counters().volume_uncached, 1U);
  ASSERT_EQ(image_volumes(daemon).size(), 1U);
  EXPECT_EQ(image_volumes(daemon)[0]["id"], kept);

  EXPECT_EQ(daemon.status("DELETE", "/v1/image-volumes/" + kept + "/pin").status, 204);
  ASSERT_EQ(daemon.settle(daemon.create(second)), "available");
  ASSERT_EQ(image_volumes(daemon).size(), 1U);
  EXPECT_EQ(image_volumes(daemon)[0]["image_id"], second);
}

TEST(VolumeLimits, AnImageVolumeThatIsEvictedByHandLeavesItsClonesWhole) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  const auto id = daemon.create(image);
  ASSERT_EQ(daemon.settle(id), "available");
  const std::string kept = image_volumes(daemon)[0]["id"];
  EXPECT_EQ(daemon.status("DELETE", "/v1/image-volumes/" + kept).status, 204);
  expect_no_image_volume(daemon);
  EXPECT_FALSE(std::filesystem::exists(daemon.volume_file(kept)));
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  EXPECT_EQ(daemon.status("DELETE", "/v1/image-volumes/" + kept).status, 404);
  EXPECT_EQ(daemon.status("PUT", "/v1/image-volumes/" + kept + "/pin").status, 404);

  const auto again = daemon.create(image);
  EXPECT_EQ(daemon.settle(again), "available") << reason(daemon, again);
  EXPECT_TRUE(holds(daemon.volume_file(again), raw, 1));
  EXPECT_EQ(daemon.counters().volume_builds_started, 2U);
  EXPECT_EQ(daemon.origin.downloads(image), 1U) << "the image file is still there";
}

TEST(VolumeLimits, ABackendWithoutImageVolumesCopiesTheImageIntoEachVolume) {
  Daemon daemon({.backend = ""});
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  for (unsigned i = 1; i <= 2; ++i) {
    const auto id = daemon.create(image);
    EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
    EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
    EXPECT_EQ(daemon.volume_files(), i);
  }
  EXPECT_EQ(daemon.origin.downloads(image), 1U);
  expect_no_image_volume(daemon);
}

}  // namespace
}  // namespace imagecache::test
