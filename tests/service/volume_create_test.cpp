// Volumes from images through the whole daemon: cold, warm, many at once; and what happens to them afterwards.
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

constexpr int many = 20;

TEST(VolumeCreate, ColdThenWarmThenTwentyAtOnceCostOneDownloadAndOneBuild) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const std::string file = as_qcow2(raw);
  ASSERT_FALSE(file.empty()) << "qemu-img is needed to make the image";
  const auto image = daemon.origin.add({.content = Content::of(file), .disk_format = "qcow2"});

  const auto cold = daemon.create(image);
  ASSERT_EQ(daemon.settle(cold), "available") << reason(daemon, cold);
  EXPECT_TRUE(holds(daemon.volume_file(cold), raw, 1));
  EXPECT_EQ(daemon.counters().volume_misses, 1U);

  const auto warm = daemon.create(image, 2);
  ASSERT_EQ(daemon.settle(warm), "available") << reason(daemon, warm);
  EXPECT_TRUE(holds(daemon.volume_file(warm), raw, 2));
  EXPECT_EQ(daemon.counters().volume_hits, 1U);

  std::vector<std::string> ids(many);
  {
    std::vector<std::jthread> clients;
    for (auto& id : ids) clients.emplace_back([&daemon, &id, &image] { id = daemon.create(image); });
  }
  for (const auto& id : ids) {
    EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
    EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  }
  EXPECT_EQ(daemon.origin.body_bytes(image), file.size());
  EXPECT_EQ(daemon.origin.downloads(image), 1U);
  EXPECT_EQ(daemon.counters().volume_builds_started, 1U);
  EXPECT_EQ(daemon.counters().volume_hits, 1U + many);
  EXPECT_EQ(daemon.volume_files(), 3U + many) << "one image-volume, and the volumes";
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 2U + many);
  EXPECT_EQ(in_use(daemon, "admin", "gigabytes"), 3U + many);
  EXPECT_EQ(in_use(daemon, internal_project, "volumes"), 1U);
  EXPECT_EQ(in_use(daemon, internal_project, "gigabytes"), 1U);
  const json kept = image_volumes(daemon);
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0]["image_id"], image);
  EXPECT_EQ(kept[0]["state"], "ready");
}

TEST(VolumeCreate, TwentyAtOnceOfAnUncachedImageWaitForOneBuild) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({raw.size() / 2, gate}); });
  std::vector<std::string> ids(many);
  for (auto& id : ids) id = daemon.create(image);
  ASSERT_TRUE(gate->wait_arrived());
  // A 202 means that the row is there; that all have joined the build the counters say.
  const auto& counters = daemon.counters();
  while (counters.volume_collapsed + counters.volume_misses + counters.volume_hits < many) std::this_thread::yield();
  EXPECT_EQ(daemon.volume_files(), 0U);
  gate->open();
  for (const auto& id : ids) {
    EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
    EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  }
  EXPECT_EQ(daemon.origin.body_bytes(image), raw.size());
  EXPECT_EQ(counters.volume_builds_started, 1U);
  EXPECT_EQ(counters.volume_misses, 1U);
  EXPECT_EQ(counters.volume_collapsed, many - 1U);
}

TEST(VolumeCreate, AVolumeThatIsTooSmallIsRefusedInCindersWords) {
  Daemon daemon;
  struct Case {
    ImageSpec image;
    std::string words;
  };
  const auto content = Content::generated(1 << 20, 1);
  const std::vector<Case> cases = {
      {{.content = content, .min_disk_gb = 5}, "Volume size 1GB cannot be smaller than the image minDisk size 5GB."},
      {{.content = content, .json = {{"size", "3221225472"}}},
       "Size of specified image 3GB is larger than volume size 1GB."},
      {{.content = content, .json = {{"virtual_size", "3221225472"}}},
       "Image virtual size is 3GB and doesn't fit in a volume of size 1GB."},
      {{.content = content, .status = "queued"}, "is not active."},
  };
  for (const auto& [spec, words] : cases) {
    const auto refused = create_request(daemon, daemon.origin.add(spec));
    EXPECT_EQ(refused.status, 400) << refused.body;
    EXPECT_NE(message(refused).find(words), std::string::npos) << refused.body;
  }
  EXPECT_EQ(create_request(daemon, "00000000-0000-4000-8000-000000000000").status, 400) << "an unknown image";
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 0U);
  EXPECT_EQ(daemon.volume_files(), 0U);
}

TEST(VolumeCreate, AnImageWhoseDiskIsLargerThanItsOriginSaysIsAnErrorWithTheReason) {
  Daemon daemon;
  const std::string file = by_qemu_img("", "create -f qcow2 %o 3G");
  const auto image = daemon.origin.add({.content = Content::of(file), .disk_format = "qcow2"});
  const auto small = daemon.create(image, 1);
  EXPECT_EQ(daemon.settle(small), "error");
  EXPECT_NE(reason(daemon, small).find("Image virtual size is 3GB and doesn't fit in a volume of size 1GB."),
            std::string::npos)
      << reason(daemon, small);
  EXPECT_EQ(daemon.volume_files(), 0U);
  expect_no_image_volume(daemon);
  const auto large = daemon.create(image, 3);
  EXPECT_EQ(daemon.settle(large), "available") << reason(daemon, large);
  EXPECT_TRUE(holds(daemon.volume_file(large), "", 3));
}

TEST(VolumeCreate, ADeletedVolumeLeavesNoFileNoRowAndNoQuota) {
  Daemon daemon;
  const auto image = add_image(daemon, sparse_disk());
  const auto id = daemon.create(image);
  ASSERT_EQ(daemon.settle(id), "available");
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 202);
  EXPECT_EQ(daemon.settle(id), "gone");
  EXPECT_FALSE(std::filesystem::exists(daemon.volume_file(id)));
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 0U);
  EXPECT_EQ(in_use(daemon, "admin", "gigabytes"), 0U);
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 404);
  EXPECT_EQ(image_volumes(daemon).size(), 1U) << "it is kept for the next";
}

TEST(VolumeCreate, AnExtendedVolumeReadsAsZeroesBehindAndCountsInTheQuota) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto id = daemon.create(add_image(daemon, raw));
  ASSERT_EQ(daemon.settle(id), "available");
  const auto extend = [&](int size_gb) {
    return daemon.volume("POST", "/volumes/" + id + "/action", {{"os-extend", {{"new_size", size_gb}}}});
  };
  EXPECT_EQ(extend(1).status, 400);
  EXPECT_EQ(extend(3).status, 202);
  EXPECT_EQ(daemon.settle(id), "available");
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 3));
  EXPECT_EQ(daemon.show(id)["size"], 3);
  EXPECT_EQ(in_use(daemon, "admin", "gigabytes"), 3U);
  set_quota(daemon, "admin", {{"gigabytes", 4}});
  const auto refused = extend(6);
  EXPECT_EQ(refused.status, 413) << refused.body;
  EXPECT_EQ(daemon.settle(id), "available");
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 3));
  EXPECT_EQ(in_use(daemon, "admin", "gigabytes"), 3U);
}

TEST(VolumeCreate, ARestartKeepsVolumesAndImageVolumes) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  const auto before = daemon.create(image);
  ASSERT_EQ(daemon.settle(before), "available");
  const json kept = image_volumes(daemon)[0]["id"];
  daemon.restart();
  EXPECT_EQ(daemon.show(before)["status"], "available");
  EXPECT_EQ(image_volumes(daemon)[0]["id"], kept);
  EXPECT_EQ(image_volumes(daemon)[0]["clones"], 1);
  const auto after = daemon.create(image);
  EXPECT_EQ(daemon.settle(after), "available") << reason(daemon, after);
  EXPECT_TRUE(holds(daemon.volume_file(after), raw, 1));
  EXPECT_EQ(daemon.counters().volume_hits, 1U);
  EXPECT_EQ(daemon.origin.downloads(image), 1U);
}

TEST(VolumeCreate, AnImageThatIsDeletedAtTheOriginIsNobodysAnyMore) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  const auto id = daemon.create(image);
  ASSERT_EQ(daemon.settle(id), "available");
  daemon.origin.remove(image);
  const auto refused = create_request(daemon, image);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(message(refused), "Invalid image identifier or unable to access requested image.");
  EXPECT_EQ(daemon.image("GET", file_path(image)).status, 404);
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
}

TEST(VolumeCreate, ACallerWhomTheOriginDeniesTheImageGetsNoVolumeOfItThoughItIsKept) {
  Daemon daemon;
  const auto image = add_image(daemon, sparse_disk());
  ASSERT_EQ(daemon.settle(daemon.create(image)), "available");
  daemon.origin.answer_token("mallory:other", 404);
  const auto refused = http(daemon.service->volume_api_port(), "POST", "/v3/other/volumes",
                            {"Content-Type: application/json", "X-Auth-Token: mallory:other"},
                            json{{"volume", {{"size", 1}, {"imageRef", image}}}}.dump());
  EXPECT_EQ(refused.status, 400) << refused.body;
  EXPECT_EQ(daemon.volume_files(), 2U);
}

}  // namespace
}  // namespace imagecache::test
