// What the memory driver promises beyond the contract, and the table of drivers.
#include <gtest/gtest.h>

#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;

TEST(MemoryDriver, ClonesCostNothingAndTheLastOneGivesTheSpaceBack) {
  Rig rig("memory", {{"memory_capacity_mb", "4"}});
  const RandomImage image({.virtual_size_bytes = 3 * mib, .dense = true});
  ASSERT_TRUE(rig.driver().create_volume({"base"}, 3 * mib));
  ASSERT_TRUE(rig.driver().copy_image_to_volume(image, {"base"}, {}));
  EXPECT_EQ(rig.driver().get_volume_stats()->free_bytes, mib);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(rig.driver().create_cloned_volume({{"base"}, {"clone-" + std::to_string(i)}, 5 * mib}));
  }
  EXPECT_EQ(rig.driver().get_volume_stats()->free_bytes, mib);
  ASSERT_TRUE(rig.driver().delete_volume({"base"}));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(rig.driver().get_volume_stats()->free_bytes, mib);
    ASSERT_TRUE(rig.driver().delete_volume({"clone-" + std::to_string(i)}));
  }
  EXPECT_EQ(rig.driver().get_volume_stats()->free_bytes, 4 * mib);
}

TEST(MemoryDriver, FullIsNoSpaceAndTheVolumeIsAsItWas) {
  Rig rig("memory", {{"memory_capacity_mb", "2"}});
  const RandomImage image({.virtual_size_bytes = 3 * mib, .dense = true});
  ASSERT_TRUE(rig.driver().create_volume({"one"}, 3 * mib));
  const auto copied = rig.driver().copy_image_to_volume(image, {"one"}, {});
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Errc::no_space) << copied.error().message;
  EXPECT_EQ(rig.driver().get_volume_stats()->free_bytes, 2 * mib);
  std::vector<std::byte> found(3 * mib, std::byte{1});
  ASSERT_EQ(rig.read({"one"}, 0, found).value_or(0), found.size());
  EXPECT_TRUE(std::ranges::all_of(found, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST(MemoryDriver, WrongOptionsAreNamedWithTheirSection) {
  for (const char* wrong : {"0", "-1", "lots", "99999999999999999999"}) {
    const auto driver = backends::find_driver("memory")(MapOptions({{"memory_capacity_mb", wrong}}));
    ASSERT_FALSE(driver);
    EXPECT_EQ(driver.error().message.find("[contract] memory_capacity_mb = "), 0U) << driver.error().message;
  }
}

TEST(Drivers, AreFoundByTheirNamesAndNoOthers) {
  for (const std::string& name : backends::driver_names()) EXPECT_NE(backends::find_driver(name), nullptr) << name;
#ifdef IMAGECACHE_BACKEND_RBD
  EXPECT_EQ(backends::driver_names(), (std::vector<std::string>{"file", "memory", "lvm", "cinder", "rbd"}));
  EXPECT_EQ(backends::find_driver("cinder.volume.drivers.rbd.RBDDriver"), backends::find_driver("rbd"));
  EXPECT_EQ(backends::find_driver("cinder_image_cache.rbd.RBDDriver"), backends::find_driver("rbd"));
#else
  EXPECT_EQ(backends::driver_names(), (std::vector<std::string>{"file", "memory", "lvm", "cinder"}));
#endif
  EXPECT_EQ(backends::find_driver(""), nullptr);
  EXPECT_EQ(backends::find_driver("File"), nullptr);
  EXPECT_EQ(backends::find_driver("cinder_image_cache.nfs.NfsDriver"),
            backends::find_driver("cinder.volume.drivers.nfs.NfsDriver"));
  EXPECT_EQ(backends::find_driver("cinder.volume.drivers.nfs.NetAppDriver"), nullptr);
}

}  // namespace
}  // namespace imagecache::test
