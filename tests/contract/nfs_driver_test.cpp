// What a section with Cinder's NfsDriver promises beyond the contract: which shares, which of them, and files that
// Cinder can go on with.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>

#include "backends/file/nfs_shares.hpp"
#include "backends/file/shares_driver.hpp"
#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;
using Options = std::map<std::string, std::string, std::less<>>;

const std::string one = "127.0.0.1:/one", two = "127.0.0.1:/two";

std::unique_ptr<Driver> start(Options options, const Options& more = {}) {
  options.insert(more.begin(), more.end());
  auto driver = backends::find_driver(nfs_driver)(MapOptions(std::move(options)));
  EXPECT_TRUE(driver) << driver.error().message;
  if (!driver) return nullptr;
  const auto ready = (*driver)->check_for_setup_error();
  EXPECT_TRUE(ready) << ready.error().message;
  return std::move(*driver);
}

std::string share_of(Driver& driver, const VolumeId& volume) {
  const auto update = driver.model_update(volume);
  return update ? update->provider_location.value_or("") : update.error().message;
}

/// A base of mount points on the file system with reflink, and a driver of the section [contract].
class NfsDriver : public testing::Test {
 protected:
  void begin(const std::vector<std::string>& mounted, const Options& more = {}) {
    shares.emplace(place("IMAGECACHE_TEST_XFS"), mounted);
    driver = start(shares->options(), more);
    ASSERT_NE(driver, nullptr);
  }
  fs::path path(const std::string& share, const std::string& name) { return shares->exported(share) / name; }
  mode_t mode(const fs::path& of) {
    struct stat info{};
    EXPECT_EQ(::stat(of.c_str(), &info), 0) << of;
    return info.st_mode & 07777;
  }

  std::optional<ShareMounts> shares;
  std::unique_ptr<Driver> driver;
  const VolumeId base_{"volume-base"}, clone_{"volume-1"}, other_{"volume-2"};
};

TEST(NfsShares, AreMountedWhereCindersClientMountsThem) {
  EXPECT_EQ(*backends::mount_point_of("/var/lib/cinder/mnt", "127.0.0.1:/one"),
            "/var/lib/cinder/mnt/a413c8e40258f852e0515b575150544a");
}

TEST(NfsShares, AreReadAsCinderReadsThem) {
  using backends::ShareAddress;
  const auto shares = backends::parse_shares(
      "# a comment\n"
      "\n"
      "   \n"
      "127.0.0.1:/one\n"
      "10.0.0.5:/srv/a\\040b -o vers=4.2,nconnect=4\n"
      "not-a-share\n"
      " 127.0.0.1:/indented\n"
      "[fd00::5]:/six\r\n"
      "127.0.0.1:/one   -o ro\n"
      "host:/last");
  EXPECT_EQ(shares, (std::vector<ShareAddress>{{"127.0.0.1:/one", "-o ro"},
                                               {"10.0.0.5:/srv/a b", "-o vers=4.2,nconnect=4"},
                                               {"[fd00::5]:/six", std::nullopt},
                                               {"host:/last", std::nullopt}}));
}

TEST_F(NfsDriver, NothingIsWrittenBelowAMountPointWithNothingMounted) {
  begin({});
  shares->add(one);
  fs::create_directories(shares->mount_point(one));
  const auto made = driver->create_volume(clone_, mib);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::unavailable);
  EXPECT_NE(made.error().message.find("[contract] share 127.0.0.1:/one: nothing is mounted on " +
                                      shares->mount_point(one).native()),
            std::string::npos)
      << made.error().message;
  EXPECT_TRUE(fs::is_empty(shares->mount_point(one)));

  // As when cinder-volume starts after us.
  shares->mount(one);
  const auto later = driver->create_volume(clone_, mib);
  EXPECT_TRUE(later) << later.error().message;
  EXPECT_TRUE(fs::exists(path(one, "volume-1")));
}

TEST_F(NfsDriver, AShareThatIsAwayMayHaveTheVolumeSoNobodyIsToldThatItIsGone) {
  begin({one, two});
  ASSERT_TRUE(driver->create_volume(clone_, mib));
  const std::string home = share_of(*driver, clone_);
  shares->unmount(home);
  const auto listed = driver->list_volumes();
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().code, Errc::unavailable);
  for (const auto& answer : {driver->delete_volume(clone_), driver->extend_volume(clone_, 2 * mib),
                             driver->create_cloned_volume({clone_, other_, mib})}) {
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::unavailable);
    EXPECT_NE(answer.error().message.find(home), std::string::npos) << answer.error().message;
  }
  // The other goes on.
  ASSERT_TRUE(driver->create_volume(other_, mib));
  EXPECT_EQ(share_of(*driver, other_), home == one ? two : one);
  EXPECT_TRUE(driver->get_volume_stats());

  shares->mount(home);
  EXPECT_EQ(driver->list_volumes()->size(), 2U);
  EXPECT_TRUE(driver->delete_volume(clone_));
  EXPECT_FALSE(fs::exists(path(home, "volume-1")));
}

TEST_F(NfsDriver, WorksInWhatIsMountedNowNotInWhatWasMountedBefore) {
  begin({one});
  ASSERT_TRUE(driver->create_volume(clone_, mib));
  shares->unmount(one);
  shares->mount(one, shares->base().parent_path() / "replacement");
  EXPECT_TRUE(driver->list_volumes()->empty());
  ASSERT_TRUE(driver->create_volume(other_, mib));
  EXPECT_TRUE(fs::exists(shares->base().parent_path() / "replacement" / "volume-2"));
}

TEST_F(NfsDriver, ANewVolumeGoesToTheShareWithTheLeastPromisedAndACloneStaysWithItsSource) {
  begin({one, two});
  const RandomImage image({.virtual_size_bytes = 2 * mib});
  ASSERT_TRUE(driver->create_volume(base_, 40 * mib));
  ASSERT_TRUE(driver->copy_image_to_volume(image, base_, {}));
  ASSERT_TRUE(driver->create_volume(other_, mib));
  const std::string home = share_of(*driver, base_);
  EXPECT_NE(share_of(*driver, other_), home);
  for (int i = 0; i < 3; ++i) {
    const VolumeId clone{"volume-c" + std::to_string(i)};
    ASSERT_TRUE(driver->create_cloned_volume({base_, clone, 50 * mib}));
    EXPECT_EQ(share_of(*driver, clone), home);
  }
  EXPECT_EQ(driver->model_update(base_)->format, "raw");
}

TEST_F(NfsDriver, WhereTheSourcesShareHasNoRoomAnotherGetsOneReplicaForAllItsClones) {
  begin({one, two}, {{"max_over_subscription_ratio", "2"}});
  const RandomImage image({.virtual_size_bytes = 3 * mib});
  ASSERT_TRUE(driver->create_volume(base_, 3 * mib));
  ASSERT_TRUE(driver->copy_image_to_volume(image, base_, {}));
  const std::string home = share_of(*driver, base_), away = home == one ? two : one;
  // Somebody fills up the promises of the source's share.
  std::ofstream(path(home, "filler")) << "x";
  fs::resize_file(path(home, "filler"), driver->get_volume_stats()->total_bytes);
  driver.reset();  // what others write is summed up once a minute, or at the start
  driver = start(shares->options(), {{"max_over_subscription_ratio", "2"}});
  const auto first = driver->create_cloned_volume({base_, clone_, 4 * mib});
  ASSERT_TRUE(first) << first.error().message;
  const fs::path replica = path(away, "volume-base.replica");
  const auto made_at = fs::last_write_time(replica);
  ASSERT_TRUE(driver->create_cloned_volume({base_, other_, 3 * mib}));
  EXPECT_EQ(fs::last_write_time(replica), made_at);
  EXPECT_EQ(share_of(*driver, clone_), away);
  EXPECT_EQ(driver->list_volumes()->size(), 3U);

  ASSERT_TRUE(driver->delete_volume(base_));
  EXPECT_FALSE(fs::exists(replica));
  for (const auto& [volume, size] : {std::pair{clone_, 4 * mib}, std::pair{other_, 3 * mib}}) {
    std::vector<std::byte> wanted(size);
    image.expected(0, wanted);
    const auto content = base::read_small_file(path(away, volume.name), 16 * mib);
    ASSERT_TRUE(content && content->size() == size);
    EXPECT_EQ(std::memcmp(content->data(), wanted.data(), size), 0) << volume.name;
  }
}

TEST_F(NfsDriver, AReplicaWhoseSourceIsGoneGoesAtTheNextStart) {
  begin({one, two});
  ASSERT_TRUE(driver->create_volume(base_, mib));
  for (const char* name : {"volume-base.replica", "volume-gone.replica"}) std::ofstream(path(two, name)) << "x";
  driver.reset();
  driver = start(shares->options());
  EXPECT_TRUE(fs::exists(path(two, "volume-base.replica")));
  EXPECT_FALSE(fs::exists(path(two, "volume-gone.replica")));
}

TEST_F(NfsDriver, AShareThatIsAddedToTheFileIsTakenUpWithoutARestart) {
  begin({one});
  ASSERT_TRUE(driver->create_volume(base_, 40 * mib));
  shares->mount(two);
  shares->add(two);
  ASSERT_TRUE(driver->create_volume(other_, mib));
  EXPECT_EQ(share_of(*driver, other_), two);
}

TEST_F(NfsDriver, MoreIsNotPromisedThanCinderWouldPromise) {
  begin({one}, {{"max_over_subscription_ratio", "1.5"}});
  const std::uint64_t total = driver->get_volume_stats()->total_bytes / mib * mib;
  ASSERT_TRUE(driver->create_volume(base_, total));
  const auto made = driver->create_volume(other_, total);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::no_space);
  EXPECT_NE(made.error().message.find("max_over_subscription_ratio = 1.5"), std::string::npos) << made.error().message;
  EXPECT_EQ(driver->extend_volume(base_, 2 * total).error().code, Errc::no_space);
  EXPECT_EQ(driver->create_cloned_volume({base_, other_, total}).error().code, Errc::no_space);
  // What somebody else has deleted is seen.
  fs::remove(path(one, "volume-base"));
  EXPECT_TRUE(driver->create_volume(other_, total));
}

TEST_F(NfsDriver, WhatIsReservedStaysFree) {
  begin({one}, {{"reserved_percentage", "100"}});
  const auto made = driver->create_volume(base_, mib);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::no_space);
  EXPECT_NE(made.error().message.find("reserved_percentage = 100"), std::string::npos) << made.error().message;
}

TEST_F(NfsDriver, FilesAreAsOpenOrAsSecureAsCinderWouldMakeThem) {
  begin({one}, {{"nas_secure_file_permissions", "True"}});
  ASSERT_TRUE(driver->create_volume(base_, mib));
  EXPECT_EQ(mode(path(one, "volume-base")), 0660U);

  driver.reset();
  driver = start(shares->options(), {{"nas_secure_file_permissions", "false"}});
  const mode_t before = ::umask(0077);
  ASSERT_TRUE(driver->create_cloned_volume({base_, clone_, mib}));
  ::umask(before);
  EXPECT_EQ(mode(path(one, "volume-1")), 0666U);

  // By default the file decides that Cinder's driver leaves on a share of a secure installation.
  driver.reset();
  driver = start(shares->options());
  ASSERT_TRUE(driver->create_volume({"volume-open"}, mib));
  EXPECT_EQ(mode(path(one, "volume-open")), 0666U);
  std::ofstream(path(one, ".cinderSecureEnvIndicator")) << "x";
  ASSERT_TRUE(driver->create_volume({"volume-secure"}, mib));
  EXPECT_EQ(mode(path(one, "volume-secure")), 0660U);
}

TEST_F(NfsDriver, WhereOperationsAreSecureFilesBelongToTheShare) {
  if (::geteuid() != 0) FAIL() << "giving files away takes root, or a user namespace of its own";
  begin({one}, {{"nas_secure_file_operations", "true"}});
  ASSERT_EQ(::chown(shares->mount_point(one).c_str(), 4711, 4712), 0);
  driver.reset();
  driver = start(shares->options(), {{"nas_secure_file_operations", "true"}});
  ASSERT_TRUE(driver->create_volume(base_, mib));
  struct stat info{};
  ASSERT_EQ(::stat(path(one, "volume-base").c_str(), &info), 0);
  EXPECT_EQ(std::pair(info.st_uid, info.st_gid), std::pair(4711U, 4712U));
}

TEST_F(NfsDriver, ListsItsVolumesAndNotCindersFilesBesideThem) {
  begin({one, two});
  ASSERT_TRUE(driver->create_volume(base_, 2 * mib));
  ASSERT_TRUE(driver->create_volume(clone_, mib));
  for (const char* beside : {"volume-1.info", "volume-1.0a1b2c3d-0000-0000-0000-000000000000", "backup", "volume-",
                             ".cinderSecureEnvIndicator"}) {
    std::ofstream(path(one, beside)) << "x";
  }
  auto listed = driver->list_volumes();
  ASSERT_TRUE(listed);
  std::ranges::sort(*listed);
  EXPECT_EQ(*listed, (std::vector<VolumeId>{{"volume-1"}, {"volume-base"}}));
}

TEST_F(NfsDriver, VolumesAreKnownByTheOperatorsOwnTemplate) {
  begin({one}, {{"volume_name_template", "prod-%s-vol"}});
  ASSERT_TRUE(driver->create_volume({"prod-1-vol"}, mib));
  ASSERT_TRUE(driver->create_volume({"volume-1"}, mib));
  EXPECT_EQ(*driver->list_volumes(), std::vector<VolumeId>{{"prod-1-vol"}});
}

TEST_F(NfsDriver, LeavesAVolumeAloneThatCinderKeepsSnapshotsOf) {
  begin({one});
  ASSERT_TRUE(driver->create_volume(clone_, mib));
  const std::string overlay = "volume-1.0a1b2c3d-0000-0000-0000-000000000000";
  std::ofstream(path(one, "volume-1.info")) << "{\n \"active\": \"" << overlay << "\"\n}";
  EXPECT_EQ(driver->extend_volume(clone_, 2 * mib).error().code, Errc::conflict);
  EXPECT_EQ(driver->delete_volume(clone_).error().code, Errc::conflict);
  EXPECT_EQ(fs::file_size(path(one, "volume-1")), mib);
  const auto connection = driver->initialize_connection(clone_);
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->data.at("name"), overlay);
  EXPECT_EQ(connection->data.at("format"), "qcow2");

  // When the last snapshot is gone Cinder's driver leaves the file, which says so.
  std::ofstream(path(one, "volume-1.info")) << "{\n \"active\": \"volume-1\"\n}";
  EXPECT_TRUE(driver->extend_volume(clone_, 2 * mib));
  EXPECT_TRUE(driver->delete_volume(clone_));
  EXPECT_FALSE(fs::exists(path(one, "volume-1")) || fs::exists(path(one, "volume-1.info")));
}

TEST_F(NfsDriver, ConnectsAsCindersOwnDriver) {
  begin({});
  shares->add(one + " -o vers=4.2");
  shares->mount(one);
  ASSERT_TRUE(driver->create_volume(clone_, mib));
  const auto connection = driver->initialize_connection(clone_);
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->driver_volume_type, "nfs");
  EXPECT_EQ(connection->data,
            (std::map<std::string, std::string>{
                {"export", one}, {"name", "volume-1"}, {"format", "raw"}, {"options", "-o vers=4.2"}}));
}

TEST_F(NfsDriver, TwoSectionsDoNotWorkOnOneShare) {
  begin({one});
  const auto second = start(shares->options());
  const auto made = second->create_volume(clone_, mib);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::unavailable);
  EXPECT_NE(made.error().message.find("another backend or another process"), std::string::npos) << made.error().message;
  driver.reset();
  EXPECT_TRUE(second->create_volume(clone_, mib));
}

TEST_F(NfsDriver, OneShareMayBeNamedInTheSectionItself) {
  shares.emplace(place("IMAGECACHE_TEST_XFS"), std::vector<std::string>{});
  shares->mount("nas:/vol");
  driver = start({{"nfs_mount_point_base", shares->base().native()},
                  {"nas_host", "nas"},
                  {"nas_share_path", "/vol"},
                  {"nas_mount_options", "-o ro"}});
  ASSERT_TRUE(driver->create_volume(clone_, mib));
  EXPECT_EQ(share_of(*driver, clone_), "nas:/vol");
  EXPECT_EQ(driver->initialize_connection(clone_)->data.at("options"), "-o ro");
}

TEST_F(NfsDriver, WithoutASharesFileItSaysWhatToWrite) {
  shares.emplace(place("IMAGECACHE_TEST_XFS"), std::vector<std::string>{});
  driver = start(shares->options());
  const auto stats = driver->get_volume_stats();
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().code, Errc::unavailable);
  EXPECT_NE(stats.error().message.find("[contract] nfs_shares_config = " + shares->shares_file().native()),
            std::string::npos)
      << stats.error().message;
}

TEST(NfsDriverSetup, QcowVolumesAreLeftToCinder) {
  const auto driver = backends::find_driver(nfs_driver)(MapOptions({{"nfs_qcow2_volumes", "yes"}}));
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error().code, Errc::unsupported);
  EXPECT_EQ(driver.error().message.find("[contract] nfs_qcow2_volumes = yes"), 0U) << driver.error().message;
}

TEST(NfsDriverSetup, ValuesThatCannotBeAreRefusedByName) {
  for (const auto& [name, value] :
       {std::pair{"nfs_qcow2_volumes", "maybe"}, std::pair{"nas_secure_file_permissions", "perhaps"},
        std::pair{"max_over_subscription_ratio", "0.5"}, std::pair{"reserved_percentage", "101"},
        std::pair{"nfs_max_concurrency", "0"}, std::pair{"nfs_mount_point_base", "mnt"}}) {
    const auto driver = backends::find_driver(nfs_driver)(MapOptions({{name, value}}));
    ASSERT_FALSE(driver) << name;
    EXPECT_NE(driver.error().message.find(std::string(name) + " = " + value), std::string::npos)
        << driver.error().message;
  }
}

}  // namespace
}  // namespace imagecache::test
