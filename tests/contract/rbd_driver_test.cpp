// What the rbd driver promises beyond the contract, on a real cluster.
#include <gtest/gtest.h>

#include <thread>

#include "contract/rig.hpp"

#ifdef IMAGECACHE_BACKEND_RBD
#include "contract/random_image.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;

class RbdDriver : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    rig_ = make_rig(GetParam());
    ASSERT_NE(rig_, nullptr);
  }
  backends::RbdDriver& driver() { return dynamic_cast<backends::RbdDriver&>(rig_->driver()); }
  RbdPool& pool() { return rig_->rbd(); }
  void make_image_volume() {
    ASSERT_TRUE(driver().create_volume(base_, 4 * mib));
    ASSERT_TRUE(driver().copy_image_to_volume(image_, base_, {}));
    ASSERT_TRUE(driver().seal(base_));
  }
  Result<void> clone(const VolumeId& target, std::uint64_t size = 4 * mib) {
    return driver().create_cloned_volume({.source = base_, .target = target, .size_bytes = size});
  }
  std::string first_bytes_of(const VolumeId& volume) {
    std::string bytes(4096, '?');
    const auto got = pool().read(volume, 0, std::as_writable_bytes(std::span(bytes)));
    EXPECT_TRUE(got) << got.error().message;
    return bytes;
  }

  std::unique_ptr<Rig> rig_;
  const RandomImage image_{{.virtual_size_bytes = 4 * mib, .dense = true}};
  const VolumeId base_{"volume-base"}, one_{"volume-1"}, two_{"volume-2"};
};

TEST_P(RbdDriver, AnImageVolumeHasOneSnapshotHoweverManyItsClones) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(clone(two_, 8 * mib));
  EXPECT_EQ(pool().relatives(base_), std::pair(std::size_t{1}, std::size_t{2}));
  EXPECT_EQ(pool().relatives(one_), std::pair(std::size_t{0}, std::size_t{0}));
}

TEST_P(RbdDriver, HowMuchItHoldsIsSaidWhereThatCostsNoQuestionPerObject) {
  make_image_volume();
  const auto known = driver().used_bytes(base_);
  ASSERT_TRUE(known) << known.error().message;
  EXPECT_EQ(*known, 4 * mib);
  pool().disable(base_, RBD_FEATURE_FAST_DIFF);
  const auto unknown = driver().used_bytes(base_);
  ASSERT_TRUE(unknown) << unknown.error().message;
  EXPECT_FALSE(*unknown);
}

TEST_P(RbdDriver, ASizeThatIsAskedForAgainGetsASnapshotOfItsOwn) {
  make_image_volume();
  ASSERT_TRUE(clone(one_, 8 * mib));
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(pool().relatives(base_), std::pair(std::size_t{1}, std::size_t{1})) << "once is not worth it";
  ASSERT_TRUE(clone(two_, 8 * mib));
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(pool().relatives(base_), std::pair(std::size_t{2}, std::size_t{2}));
  EXPECT_EQ(pool().size_bytes(base_), 4 * mib);

  const VolumeId three{"volume-3"}, four{"volume-4"};
  ASSERT_TRUE(clone(three, 8 * mib));
  EXPECT_EQ(pool().parent_snapshot(three), "base-" + std::to_string(8 * mib));
  EXPECT_EQ(pool().size_bytes(three), 8 * mib);
  EXPECT_EQ(first_bytes_of(three), first_bytes_of(one_));
  std::string tail(4096, '?');
  ASSERT_TRUE(pool().read(three, 6 * mib, std::as_writable_bytes(std::span(tail))));
  EXPECT_EQ(tail, std::string(4096, '\0'));

  // After a restart it is found again.
  auto options = MapOptions({{"rbd_pool", "volumes"}, {"rbd_ceph_conf", RbdPool::conf()}});
  const auto second = backends::make_rbd_driver(options);
  ASSERT_TRUE(second && (*second)->check_for_setup_error());
  ASSERT_TRUE((*second)->create_cloned_volume({.source = base_, .target = four, .size_bytes = 8 * mib}));
  EXPECT_EQ(pool().parent_snapshot(four), "base-" + std::to_string(8 * mib));

  ASSERT_TRUE(driver().delete_volume(base_));
  for (const VolumeId& volume : {one_, two_, three, four}) ASSERT_TRUE(driver().delete_volume(volume));
  EXPECT_EQ(pool().in_trash(), 0U);
}

TEST_P(RbdDriver, ASnapshotOfAnotherSizeThatSomebodyTookAwayIsDoneWithout) {
  make_image_volume();
  ASSERT_TRUE(clone(one_, 8 * mib));
  ASSERT_TRUE(clone(two_, 8 * mib));
  ASSERT_TRUE(driver().maintain());
  pool().remove_snapshot(base_, "base-" + std::to_string(8 * mib));
  const VolumeId three{"volume-3"};
  const auto cloned = clone(three, 8 * mib);
  ASSERT_TRUE(cloned) << cloned.error().message;
  EXPECT_EQ(pool().size_bytes(three), 8 * mib);
}

TEST_P(RbdDriver, ADeletedSourceIsInTheTrashUntilTheLastOfItsClonesIsGone) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(clone(two_));
  const std::string content = first_bytes_of(one_);
  ASSERT_TRUE(driver().delete_volume(base_));
  EXPECT_EQ(pool().in_trash(), 1U);
  EXPECT_EQ(first_bytes_of(one_), content);
  ASSERT_TRUE(driver().delete_volume(one_));
  EXPECT_EQ(pool().in_trash(), 1U);
  EXPECT_EQ(first_bytes_of(two_), content);
  ASSERT_TRUE(driver().delete_volume(two_));
  EXPECT_EQ(pool().in_trash(), 0U);
  EXPECT_EQ(driver().trashed(), 0U);
}

TEST_P(RbdDriver, AVolumeThatSomebodyElsePutIntoTheTrashStaysThere) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(driver().delete_volume(base_));
  pool().to_trash(one_);  // as Cinder does with enable_deferred_deletion
  auto options = MapOptions({{"rbd_pool", "volumes"}, {"rbd_ceph_conf", RbdPool::conf()}});
  const auto second = backends::make_rbd_driver(options);
  ASSERT_TRUE(second && (*second)->check_for_setup_error() && (*second)->maintain());
  EXPECT_EQ(pool().in_trash(), 2U);
  EXPECT_EQ(dynamic_cast<backends::RbdDriver&>(**second).trashed(), 1U);
}

TEST_P(RbdDriver, ASourceWhoseLastCloneSomebodyElseDeletedLeavesTheTrashAtMaintenance) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(driver().delete_volume(base_));
  EXPECT_EQ(pool().in_trash(), 1U);
  pool().remove(one_.name);
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(pool().in_trash(), 0U);
  EXPECT_EQ(driver().trashed(), 0U);
}

TEST_P(RbdDriver, WhatHasClonesIsNotLookedAtAgainSoon) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(driver().delete_volume(base_));
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(driver().trashed(), 1U);
  pool().remove(one_.name);
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(driver().trashed(), 1U) << "not yet";
  ASSERT_TRUE(driver().delete_volume(one_));  // which is how we hear that somebody else has done it
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(driver().trashed(), 0U);
}

TEST_P(RbdDriver, ADeleteHasNothingToDoWithOtherSourcesTroubles) {
  make_image_volume();
  ASSERT_TRUE(clone(one_, 8 * mib));
  ASSERT_TRUE(clone(two_, 8 * mib));  // the size is worth a snapshot now
  const VolumeId other{"volume-other"}, child{"volume-other-child"};
  ASSERT_TRUE(driver().create_volume(other, 4 * mib));
  ASSERT_TRUE(driver().seal(other));
  ASSERT_TRUE(driver().create_cloned_volume({.source = other, .target = child, .size_bytes = 4 * mib}));
  pool().to_trash(base_);  // behind our back
  const auto deleted = driver().delete_volume(other);
  EXPECT_TRUE(deleted) << deleted.error().message;
  EXPECT_FALSE(driver().maintain()) << "it is maintenance that has the trouble";
}

TEST_P(RbdDriver, ASourceThatACrashLeftGrownGetsItsSizeAgain) {
  make_image_volume();
  pool().resize(base_, 8 * mib);
  auto options = MapOptions({{"rbd_pool", "volumes"}, {"rbd_ceph_conf", RbdPool::conf()}});
  const auto second = backends::make_rbd_driver(options);
  ASSERT_TRUE(second && (*second)->check_for_setup_error());
  ASSERT_TRUE((*second)->create_cloned_volume({.source = base_, .target = one_, .size_bytes = 4 * mib}));
  EXPECT_EQ(pool().size_bytes(one_), 4 * mib);
  ASSERT_TRUE((*second)->maintain());
  EXPECT_EQ(pool().size_bytes(base_), 4 * mib);
}

TEST_P(RbdDriver, SnapshotsOfOthersStay) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  pool().make_snapshot(base_, "base-of-somebody");
  ASSERT_TRUE(driver().delete_volume(base_));
  EXPECT_EQ(pool().in_trash(), 1U);
  ASSERT_TRUE(driver().delete_volume(one_));
  EXPECT_EQ(pool().in_trash(), 1U);
}

TEST_P(RbdDriver, ASourceAndItsClonesDeletedAtOnceLeaveNothing) {
  constexpr int clones = 6;
  make_image_volume();
  std::vector<VolumeId> volumes{base_};
  for (int i = 0; i < clones; ++i) {
    volumes.push_back({"volume-at-once-" + std::to_string(i)});
    ASSERT_TRUE(clone(volumes.back()));
  }
  {
    std::vector<std::jthread> deletes;
    for (const VolumeId& volume : volumes)
      deletes.emplace_back([this, &volume] { EXPECT_TRUE(driver().delete_volume(volume)); });
  }
  ASSERT_TRUE(driver().maintain());
  EXPECT_EQ(pool().in_trash(), 0U);
  EXPECT_EQ(driver().trashed(), 0U);
}

TEST_P(RbdDriver, AfterARestartTheTrashIsStillFinished) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(driver().delete_volume(base_));
  auto options = MapOptions({{"rbd_pool", "volumes"}, {"rbd_ceph_conf", RbdPool::conf()}});
  const auto second = backends::make_rbd_driver(options);
  ASSERT_TRUE(second);
  ASSERT_TRUE((*second)->check_for_setup_error());
  ASSERT_TRUE((*second)->maintain());
  EXPECT_EQ(dynamic_cast<backends::RbdDriver&>(**second).trashed(), 1U);
  ASSERT_TRUE((*second)->delete_volume(one_));
  EXPECT_EQ(pool().in_trash(), 0U);
}

TEST_P(RbdDriver, AnImageVolumeThatACrashLeftUnsealedIsSealedByItsFirstClone) {
  ASSERT_TRUE(driver().create_volume(base_, 4 * mib));
  ASSERT_TRUE(driver().copy_image_to_volume(image_, base_, {}));
  const auto cloned = clone(one_);
  ASSERT_TRUE(cloned) << cloned.error().message;
  EXPECT_EQ(pool().relatives(base_), std::pair(std::size_t{1}, std::size_t{1}));
}

TEST_P(RbdDriver, AClusterThatHasShutUsOutIsConnectedToAnew) {
  make_image_volume();
  const auto address = driver().client_address();
  ASSERT_TRUE(address);
  pool().shut_out(*address);
  // The osd learns of it a moment later.
  Result<void> done;
  for (int i = 0; done && i < 100; ++i) done = clone({"volume-c" + std::to_string(i)});
  ASSERT_FALSE(done) << "was never shut out";
  EXPECT_EQ(done.error().code, Errc::unavailable) << done.error().message;
  const auto cloned = clone(one_);
  EXPECT_TRUE(cloned) << cloned.error().message;
  EXPECT_NE(*driver().client_address(), *address);
}

TEST_P(RbdDriver, ASourceThatIsMadeAgainUnderItsNameIsNotTakenForTheFormerOne) {
  make_image_volume();
  ASSERT_TRUE(clone(one_));
  ASSERT_TRUE(driver().delete_volume(one_));
  ASSERT_TRUE(driver().delete_volume(base_));
  ASSERT_TRUE(driver().create_volume(base_, 6 * mib));
  ASSERT_TRUE(driver().seal(base_));
  EXPECT_FALSE(clone(one_, 4 * mib));
  EXPECT_TRUE(clone(one_, 6 * mib));
}

TEST_P(RbdDriver, AttachersAreToldWhatCindersOwnDriverWouldTellThem) {
  make_image_volume();
  const auto connection = driver().initialize_connection(base_);
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->driver_volume_type, "rbd");
  EXPECT_EQ(connection->data.at("name"), "volumes/volume-base");
  EXPECT_EQ(connection->data.at("secret_uuid").size(), 36U);
}

INSTANTIATE_TEST_SUITE_P(, RbdDriver, testing::Values("rbd"), [](const auto& name) { return std::string(name.param); });

TEST(RbdDriverSetup, AMissingPoolIsNamed) {
  auto options = MapOptions({{"rbd_pool", "no-such-pool"}, {"rbd_ceph_conf", RbdPool::conf()}});
  const auto driver = backends::make_rbd_driver(options);
  ASSERT_TRUE(driver);
  const auto ready = (*driver)->check_for_setup_error();
  ASSERT_FALSE(ready);
  EXPECT_NE(ready.error().message.find("[contract] rbd_pool = no-such-pool"), std::string::npos)
      << ready.error().message;
}

TEST(RbdDriverSetup, AMissingConfigurationIsNamed) {
  auto options = MapOptions({{"rbd_ceph_conf", "/does/not/exist.conf"}});
  const auto driver = backends::make_rbd_driver(options);
  ASSERT_TRUE(driver);
  const auto ready = (*driver)->check_for_setup_error();
  ASSERT_FALSE(ready);
  EXPECT_NE(ready.error().message.find("rbd_ceph_conf = /does/not/exist.conf"), std::string::npos)
      << ready.error().message;
}

TEST(RbdDriverSetup, ValuesThatCannotBeAreRefusedByName) {
  for (const auto& [name, value] : {std::pair{"rbd_store_chunk_size", "3"}, std::pair{"rados_connect_timeout", "soon"},
                                    std::pair{"rbd_max_concurrency", "0"}, std::pair{"rbd_pool", ""}}) {
    auto options = MapOptions({{name, value}});
    const auto driver = backends::make_rbd_driver(options);
    ASSERT_FALSE(driver) << name;
    EXPECT_NE(driver.error().message.find(name), std::string::npos) << driver.error().message;
  }
}

}  // namespace
}  // namespace imagecache::test
#endif
