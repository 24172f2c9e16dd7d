// The report on image-volumes: whom they have served, what they hold and spare, and what was not kept, and why.
#include <SQLiteCpp/SQLiteCpp.h>

#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

json report(Daemon& daemon) {
  return parsed(daemon.status("GET", "/v1/image-volumes/report"));
}

TEST(ImageVolumeReport, SaysWhomEachHasServedAndWhatItHolds) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  ASSERT_EQ(daemon.settle(daemon.create(image)), "available");
  const auto second = daemon.create(image);
  ASSERT_EQ(daemon.settle(second), "available");
  const auto by_hook = base::new_uuid();
  ASSERT_EQ(hook(daemon, "PUT", by_hook,
                 {{"backend", "file1"},
                  {"name", "volume-" + by_hook},
                  {"size_gb", 1},
                  {"image_id", image},
                  {"project_id", "tenant"}})
                .status,
            200);
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + second).status, 202);
  EXPECT_EQ(daemon.settle(second), "gone");
  for (const bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    if (restarted) daemon.restart();
    const json said = report(daemon);
    ASSERT_EQ(said["image_volumes"].size(), 1U);
    const json& one = said["image_volumes"][0];
    EXPECT_EQ(one["image_id"], image);
    EXPECT_EQ(one["backend"], "file1");
    EXPECT_EQ(one["requesting_project"], "admin");
    EXPECT_EQ(one["clones"], 3);
    EXPECT_EQ(one["living_clones"], 2);
    EXPECT_GT(one["used_bytes"].get<std::uint64_t>(), 0U);
    EXPECT_LT(one["used_bytes"].get<std::uint64_t>(), std::uint64_t{1} << 30) << "not what it could hold";
    std::map<std::string, int> clones;
    for (const auto& use : one["uses"]) clones[use["project_id"]] = use["clones"];
    EXPECT_EQ(clones, (std::map<std::string, int>{{"admin", 2}, {"tenant", 1}}));
    EXPECT_EQ(said["total"]["clones"], 3);
    EXPECT_TRUE(said["refusals"].empty());
  }
}

TEST(ImageVolumeReport, WhatABackendCannotSayIsNotNothing) {
  Daemon daemon;
  for (unsigned seed = 1; seed <= 2; ++seed)
    ASSERT_EQ(daemon.settle(daemon.create(add_image(daemon, sparse_disk(seed)))), "available");
  EXPECT_EQ(report(daemon)["total"]["used_bytes_unknown"], 0);
  const auto forget = [&](const std::string& which) {
    SQLite::Database catalog(daemon.directory / "state/catalog.sqlite", SQLite::OPEN_READWRITE, 10'000);
    catalog.exec("UPDATE image_volumes SET used_bytes = -1 WHERE volume_id " + which);
  };
  const std::string one = report(daemon)["image_volumes"][0]["id"];
  const std::uint64_t other_bytes = report(daemon)["image_volumes"][1]["used_bytes"];
  forget("= '" + one + "'");  // as of Cinder's own drivers, none of which tells
  EXPECT_TRUE(report(daemon)["image_volumes"][0]["used_bytes"].is_null());
  EXPECT_EQ(report(daemon)["total"]["used_bytes"], other_bytes);
  EXPECT_EQ(report(daemon)["total"]["used_bytes_unknown"], 1);
  forget("IS NOT NULL");
  EXPECT_TRUE(report(daemon)["total"]["used_bytes"].is_null());
  EXPECT_EQ(report(daemon)["total"]["used_bytes_unknown"], 2);
}

TEST(ImageVolumeReport, WhatTheQuotaRefusesIsInTheResponseTheCounterAndTheReport) {
  Daemon daemon;
  set_quota(daemon, internal_project, {{"volumes", 0}});
  const auto image = add_image(daemon, sparse_disk());
  const auto made = hook_create(daemon, base::new_uuid(), image);
  ASSERT_EQ(made.status, 200) << "the user gets the volume all the same";
  EXPECT_EQ(parsed(made)["outcome"], "uncached");
  const std::string reason = parsed(made)["uncached_reason"];
  EXPECT_NE(reason.find("quota of the internal tenant internal"), std::string::npos) << reason;
  EXPECT_EQ(hook_create(daemon, base::new_uuid(), image).status, 200);
  EXPECT_EQ(daemon.counters().image_volume_quota_refusals, 2U);
  EXPECT_EQ(parsed(daemon.status("GET", "/v1/status"))["volume_cache"]["quota_refusals"], 2);
  daemon.restart();
  const json refusals = report(daemon)["refusals"];
  ASSERT_EQ(refusals.size(), 1U);
  EXPECT_EQ(refusals[0]["image_id"], image);
  EXPECT_EQ(refusals[0]["kind"], "quota");
  EXPECT_EQ(refusals[0]["count"], 2);
  EXPECT_EQ(refusals[0]["reason"], reason);
}

}  // namespace
}  // namespace imagecache::test
