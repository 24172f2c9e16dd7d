// A section with Cinder's NfsDriver in the whole daemon, and sections that are not ours.
#include <gmock/gmock.h>

#include "service/volumes.hpp"
#include "support/share_mounts.hpp"

namespace imagecache::test {
namespace {

constexpr const char* nfs_driver = "cinder.volume.drivers.nfs.NfsDriver";

DaemonOptions on(const ShareMounts& shares) {
  return {.backend = "image_volume_cache_enabled = true\nnfs_shares_config = " + shares.shares_file().native() +
                     "\nnfs_mount_point_base = " + shares.base().native() + "\n",
          .driver = nfs_driver};
}

TEST(VolumeNfs, TheServiceStartsBeforeItsShareIsMountedAndTakesItUpOnceItIs) {
  const std::string share = "127.0.0.1:/volumes";
  ShareMounts shares(std::filesystem::temp_directory_path(), {});
  shares.add(share);
  Daemon daemon(on(shares));
  const auto image = add_image(daemon, sparse_disk());
  const std::string id = base::new_uuid();
  const auto early = hook_create(daemon, id, image);
  EXPECT_EQ(early.status, 503) << early.body;
  EXPECT_EQ(parsed(early)["error"]["fallback"], true);
  EXPECT_THAT(parsed(early)["error"]["message"].get<std::string>(), testing::HasSubstr("nothing is mounted on"));

  shares.mount(share);
  for (const char* outcome : {"miss", "hit"}) {
    const std::string volume = outcome == std::string("miss") ? id : base::new_uuid();
    const auto made = hook_create(daemon, volume, image);
    ASSERT_EQ(made.status, 200) << made.body;
    EXPECT_EQ(parsed(made)["outcome"], outcome);
    EXPECT_EQ(parsed(made)["provider_location"], share);
    EXPECT_EQ(parsed(made)["format"], "raw");
    EXPECT_EQ(std::filesystem::file_size(shares.exported(share) / ("volume-" + volume)), base::gib);
  }
  const auto listed = [&] {
    return http(daemon.service->volume_api_port(), "GET", "/v1/hook/image-volumes?backend=file1");
  };
  ASSERT_EQ(parsed(listed())["image_volumes"].size(), 1U);
  EXPECT_EQ(parsed(listed())["image_volumes"][0]["provider_location"], share);
  EXPECT_EQ(parsed(listed())["image_volumes"][0]["format"], "raw");
  shares.unmount(share);
  EXPECT_EQ(listed().status, 503);
  shares.mount(share);

  EXPECT_EQ(hook(daemon, "DELETE", id).status, 204);
  EXPECT_FALSE(std::filesystem::exists(shares.exported(share) / ("volume-" + id)));
}

TEST(VolumeNfs, AShareThatGoesAwayTakesNoRowsWithIt) {
  const std::string share = "127.0.0.1:/volumes";
  ShareMounts shares(std::filesystem::temp_directory_path(), {share});
  Daemon daemon(on(shares));
  const auto image = add_image(daemon, sparse_disk());
  ASSERT_EQ(hook_create(daemon, base::new_uuid(), image).status, 200);
  daemon.stop();
  shares.unmount(share);
  daemon.start();
  EXPECT_EQ(image_volumes(daemon).size(), 1U);
  EXPECT_EQ(hook_create(daemon, base::new_uuid(), image).status, 503);
  shares.mount(share);
  EXPECT_EQ(parsed(hook_create(daemon, base::new_uuid(), image))["outcome"], "hit");
}

TEST(VolumeNfs, ADriverThatNeedsNoUpdateOfCindersRowGivesNone) {
  Daemon daemon;
  const auto made = hook_create(daemon, base::new_uuid(), add_image(daemon, sparse_disk()));
  ASSERT_EQ(made.status, 200) << made.body;
  EXPECT_TRUE(parsed(made)["provider_location"].is_null());
  EXPECT_TRUE(parsed(made)["format"].is_null());
}

TEST(SectionsOfOthers, AreNamedInOneLineEachAndLeftAlone) {
  testing::internal::CaptureStderr();
  {
    Daemon daemon({.defaults = "enabled_backends = lvm1,file1,qcow,unheard\n",
                   .backend = "[lvm1]\nvolume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver\nlvm_mirrors = "
                              "1\n[qcow]\nvolume_driver = " +
                              std::string(nfs_driver) +
                              "\nnfs_qcow2_volumes = true\n[unheard]\nvolume_driver = vendor.of.Storage\n"});
    const auto made = hook_create(daemon, base::new_uuid(), add_image(daemon, sparse_disk()));
    EXPECT_EQ(made.status, 200) << made.body;
    EXPECT_EQ(daemon.service->volumes().backends().size(), 1U);
  }
  const std::string log = testing::internal::GetCapturedStderr();
  const auto lines_with = [&](std::string_view text) {
    int count = 0;
    for (const auto& line : base::split(log, '\n')) count += line.find(text) != std::string::npos ? 1 : 0;
    return count;
  };
  EXPECT_EQ(lines_with("[lvm1] lvm_mirrors = 1: mirrored volumes are not made here; the section is left to Cinder"), 1)
      << log;
  EXPECT_EQ(lines_with("[unheard] volume_driver = vendor.of.Storage: no driver of ours"), 1) << log;
  EXPECT_EQ(lines_with("[qcow] nfs_qcow2_volumes = true:"), 1) << log;
  EXPECT_EQ(lines_with("left to Cinder"), 2) << log;
}

}  // namespace
}  // namespace imagecache::test
