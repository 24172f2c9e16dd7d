// A process that is killed while it gives an image-volume a snapshot of another size: what the next one finds is whole,
// has its own size for those who clone it, and is put in order by maintenance. (All other steps: tests/crash, by the
// service.)
#include <gtest/gtest.h>

#include <csignal>

#include "contract/rig.hpp"

#ifdef IMAGECACHE_BACKEND_RBD
#include "contract/random_image.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;

class RbdCrash : public testing::TestWithParam<const char*> {
 protected:
  static std::unique_ptr<Driver> start() {
    auto driver =
        backends::find_driver("rbd")(MapOptions({{"rbd_pool", "volumes"}, {"rbd_ceph_conf", RbdPool::conf()}}));
    EXPECT_TRUE(driver && (*driver)->check_for_setup_error());
    return driver ? std::move(*driver) : nullptr;
  }
  static bool clone(Driver& driver, const VolumeId& target, std::uint64_t size_bytes) {
    return driver.create_cloned_volume({.source = base_, .target = target, .size_bytes = size_bytes}).has_value();
  }
  /// Until two clones have grown to a size, and maintenance prepares it.
  static bool work(Driver& driver, const ImageFile& image) {
    return driver.create_volume(base_, 4 * mib) && driver.copy_image_to_volume(image, base_, {}) &&
           driver.seal(base_) && clone(driver, one_, 8 * mib) && clone(driver, two_, 8 * mib) && driver.maintain();
  }
  static inline const VolumeId base_{"volume-base"}, one_{"volume-1"}, two_{"volume-2"};
};

TEST_P(RbdCrash, LeavesAnImageVolumeThatIsClonedAtItsOwnSizeAndPutInOrder) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const RandomImage image({.virtual_size_bytes = 4 * mib, .dense = true});
  // The process that is killed is this one started anew, and must leave the pool as it finds it.
  std::unique_ptr<Rig> rig;
  if (!testing::internal::InDeathTestChild()) rig = make_rig("rbd");
  EXPECT_EXIT(
      {
        ::setenv("IMAGECACHE_CRASH_AT", GetParam(), 1);
        std::_Exit(work(*start(), image) ? 0 : 1);
      },
      testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(rig->rbd().size_bytes(base_), 8 * mib) << "it was not killed while it was grown";

  const VolumeId small{"volume-small"}, large{"volume-large"};
  const auto driver = start();
  ASSERT_NE(driver, nullptr);
  ASSERT_TRUE(clone(*driver, small, 4 * mib));
  ASSERT_TRUE(clone(*driver, large, 8 * mib));
  ASSERT_TRUE(driver->maintain());
  EXPECT_EQ(rig->rbd().size_bytes(base_), 4 * mib);
  for (const auto& [volume, size] : {std::pair(small, 4 * mib), std::pair(one_, 8 * mib), std::pair(large, 8 * mib)}) {
    std::vector<std::byte> found(size), wanted(size);
    image.expected(0, wanted);
    const auto got = rig->read(volume, 0, found);
    EXPECT_TRUE(got && *got == size) << volume.name;
    EXPECT_TRUE(found == wanted) << volume.name;
  }
  for (const VolumeId& volume : {base_, one_, two_, small, large}) EXPECT_TRUE(driver->delete_volume(volume));
  EXPECT_EQ(rig->rbd().in_trash(), 0U);
}

INSTANTIATE_TEST_SUITE_P(, RbdCrash, testing::Values("prepare.grown", "prepare.snapped"), [](const auto& param) {
  std::string name = param.param;
  std::ranges::replace(name, '.', '_');
  return name;
});

}  // namespace
}  // namespace imagecache::test
#endif
