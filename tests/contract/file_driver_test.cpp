// What the file driver promises beyond the contract: how its files look, what they cost, what it leaves behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <cstring>
#include <fstream>

#include "backends/file/file_copy.hpp"
#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;
constexpr auto work_directory = ".cinder-image-cache";

/// Nothing is in the work directory but the lock.
bool is_idle(const fs::path& directory) {
  const auto entries = std::distance(fs::directory_iterator(directory / work_directory), fs::directory_iterator());
  return entries == 1 && fs::exists(directory / work_directory / "lock");
}

struct stat stat_of(const fs::path& path) {
  struct stat info{};
  EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
  return info;
}

std::uint64_t allocated(const fs::path& path) {
  return static_cast<std::uint64_t>(stat_of(path).st_blocks) * 512;
}

Result<std::unique_ptr<Driver>> make(std::map<std::string, std::string, std::less<>> options) {
  return backends::find_driver("file")(MapOptions(std::move(options)));
}

/// Writes the image's content as a raw file, as an image cache would hold it.
base::Fd write_raw(const RandomImage& image, const fs::path& path) {
  base::Fd fd = std::move(*base::open_file(path, O_RDWR | O_CREAT | O_TRUNC));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(image.virtual_size_bytes())), 0);
  const auto written = image.for_each_data(
      [&](std::uint64_t offset, std::span<const std::byte> data) {
        return base::write_all_at(fd.get(), data, offset, path.native());
      },
      {});
  EXPECT_TRUE(written);
  return fd;
}

class FileDriver : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { rig_ = make_rig(GetParam()); }
  Driver& driver() { return rig_->driver(); }
  fs::path path(const std::string& name) { return rig_->directory() / name; }
  bool shares() { return driver().capabilities().clone == CloneSupport::copy_on_write; }
  void fill(const VolumeId& volume, const RandomImage& image, std::uint64_t size) {
    ASSERT_TRUE(driver().create_volume(volume, size));
    const auto copied = driver().copy_image_to_volume(image, volume, {});
    ASSERT_TRUE(copied) << copied.error().message;
  }
  bool same(const VolumeId& volume, const RandomImage& image) {
    std::vector<std::byte> found(image.virtual_size_bytes()), wanted(found.size());
    image.expected(0, wanted);
    return rig_->read(volume, 0, found).value_or(0) == found.size() &&
           std::memcmp(found.data(), wanted.data(), found.size()) == 0;
  }

  std::unique_ptr<Rig> rig_;
  const VolumeId base_{"volume-base"}, one_{"volume-1"};
};

TEST_P(FileDriver, SaysWhatItsFileSystemCanDo) {
  struct statfs info{};
  ASSERT_EQ(::statfs(rig_->directory().c_str(), &info), 0);
  if (info.f_type == EXT4_SUPER_MAGIC || info.f_type == TMPFS_MAGIC) EXPECT_FALSE(shares());
  if (info.f_type == BTRFS_SUPER_MAGIC) EXPECT_TRUE(shares());
  if (std::string_view(GetParam()) == "file_reflink" && std::getenv("IMAGECACHE_TEST_XFS")) {
    EXPECT_TRUE(shares()) << "IMAGECACHE_TEST_XFS names a directory without reflink";
  }
}

TEST_P(FileDriver, AVolumeIsAFileThatCindersDriversCanManage) {
  const mode_t before = ::umask(0077);
  const RandomImage image({.virtual_size_bytes = mib});
  fill(base_, image, mib);
  ASSERT_TRUE(driver().create_cloned_volume({base_, one_, 3 * mib + 512}));
  ::umask(before);
  for (const auto& [name, size] : {std::pair{"volume-base", mib}, std::pair{"volume-1", 3 * mib + 512}}) {
    const struct stat info = stat_of(path(name));
    EXPECT_TRUE(S_ISREG(info.st_mode));
    EXPECT_EQ(info.st_mode & 07777, 0660U);
    EXPECT_EQ(static_cast<std::uint64_t>(info.st_size), size);
    EXPECT_EQ(info.st_nlink, 1U);
  }
}

TEST_P(FileDriver, ConnectsAsALocalFile) {
  ASSERT_TRUE(driver().create_volume(one_, mib));
  const auto connection = driver().initialize_connection(one_);
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->driver_volume_type, "local");
  EXPECT_EQ(connection->data.at("device_path"), path("volume-1").native());
}

TEST_P(FileDriver, HolesStayHolesThroughCopyAndClone) {
  const RandomImage image({.virtual_size_bytes = 256 * mib, .run_bytes = mib}, 7);
  fill(base_, image, 256 * mib);
  ASSERT_TRUE(driver().create_cloned_volume({base_, one_, 512 * mib}));
  // A run's ends may each fill up a block.
  const std::uint64_t most = image.data_bytes() + image.data_bytes() / 4 + mib;
  EXPECT_LE(allocated(path("volume-base")), most);
  EXPECT_LE(allocated(path("volume-1")), most);
  EXPECT_TRUE(same(one_, image));
}

TEST_P(FileDriver, ADenseImageVolumeIsInFewExtentsWhereverItsRunsCameFrom) {
  // Cloning pays for every extent. Runs come shuffled, from four threads.
  const RandomImage image({.virtual_size_bytes = 256 * mib, .run_bytes = mib, .dense = true});
  fill(base_, image, 256 * mib);
  const auto fd = base::open_file(path("volume-base"), O_RDONLY);
  ASSERT_TRUE(fd);
  const auto extents = backends::count_extents(fd->get(), "volume-base");
  RecordProperty("extents_per_gib", std::to_string(extents.value_or(0) * 4));
  if (shares()) {
    ASSERT_TRUE(extents) << extents.error().message;
    EXPECT_LE(*extents, 4U);  // 1 on an empty file system; a small one has groups that a run cannot cross
  }
  EXPECT_TRUE(same(base_, image));
}

TEST_P(FileDriver, ARawImageFileNextDoorIsSharedNotCopied) {
  RandomImage image({.virtual_size_bytes = 20 * mib + 1024, .run_bytes = 4 * mib, .dense = true});
  const base::Fd raw = write_raw(image, path(".image"));
  image.fd = raw.get();
  std::atomic<int> copied = 0;
  image.before_run = [&](std::size_t) { ++copied; };
  fill(base_, image, 32 * mib);
  EXPECT_EQ(copied == 0, shares());
  EXPECT_TRUE(same(base_, image));
  EXPECT_EQ(static_cast<std::uint64_t>(stat_of(path("volume-base")).st_size), 32 * mib);
}

TEST_P(FileDriver, AScatteredImageFileIsCopiedSoThatItsClonesAreCheap) {
  RandomImage image({.virtual_size_bytes = 64 * mib, .run_bytes = 32 << 10}, 3);
  const base::Fd raw = write_raw(image, path(".image"));
  const auto extents = backends::count_extents(raw.get(), "image");
  ASSERT_TRUE(!extents || *extents > 128) << *extents;
  image.fd = raw.get();
  std::atomic<int> copied = 0;
  image.before_run = [&](std::size_t) { ++copied; };
  fill(base_, image, 64 * mib);
  EXPECT_GT(copied, 0);
  EXPECT_TRUE(same(base_, image));
}

TEST_P(FileDriver, AnImageFileOnAnotherFileSystemIsCopied) {
  RandomImage image({.virtual_size_bytes = 4 * mib, .dense = true});
  const fs::path elsewhere = "/dev/shm/contract-" + base::new_uuid();
  const base::Fd raw = write_raw(image, elsewhere);
  image.fd = raw.get();
  fill(base_, image, 4 * mib);
  fs::remove(elsewhere);
  EXPECT_TRUE(same(base_, image));
}

TEST_P(FileDriver, ListsVolumesAndNothingElse) {
  ASSERT_TRUE(driver().create_volume(one_, mib));
  fs::create_directory(path("lost+found"));
  fs::create_directory(path("directory"));
  fs::create_symlink("volume-1", path("link"));
  std::ofstream(path(".hidden")) << "x";
  std::ofstream(path("stray")) << "x";
  const auto listed = driver().list_volumes();
  ASSERT_TRUE(listed);
  std::vector<VolumeId> sorted = *listed;
  std::ranges::sort(sorted);
  EXPECT_EQ(sorted, (std::vector<VolumeId>{{"stray"}, {"volume-1"}}));
}

TEST_P(FileDriver, DoesNotFollowALinkOutOfItsDirectory) {
  std::ofstream(path("victim")) << "precious";
  fs::create_symlink("victim", path("volume-1"));
  EXPECT_FALSE(driver().extend_volume(one_, mib));
  EXPECT_FALSE(driver().create_cloned_volume({one_, base_, mib}));
  EXPECT_FALSE(driver().create_volume(one_, mib));
  EXPECT_FALSE(driver().create_volume({"../volume-2"}, mib));
  EXPECT_FALSE(driver().delete_volume({work_directory}));
  EXPECT_EQ(fs::file_size(path("victim")), 8U);
  EXPECT_FALSE(fs::exists(rig_->directory().parent_path() / "volume-2"));
}

TEST_P(FileDriver, RefusesASizeThatNoFileCanHave) {
  const auto result = driver().create_volume(one_, UINT64_MAX);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::invalid_argument) << result.error().message;
  EXPECT_FALSE(fs::exists(path("volume-1")));
}

TEST_P(FileDriver, FailedCallsLeaveNoFileBehind) {
  ASSERT_TRUE(driver().create_volume(base_, mib));
  ASSERT_TRUE(driver().create_volume(one_, mib));
  EXPECT_FALSE(driver().create_cloned_volume({base_, one_, mib}));
  EXPECT_FALSE(driver().create_volume(one_, mib));
  EXPECT_TRUE(is_idle(rig_->directory()));
}

TEST_P(FileDriver, ThrowsAwayAtItsStartWhatACrashLeft) {
  const fs::path directory = rig_->directory() / "own";
  fs::create_directories(directory / work_directory);
  std::ofstream(directory / work_directory / "volume-1.half") << "half";
  const auto driver = make({{"file_volume_dir", directory.native()}});
  ASSERT_TRUE(driver);
  const auto ready = (*driver)->check_for_setup_error();
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_TRUE(is_idle(directory));
  EXPECT_TRUE((*driver)->list_volumes()->empty());
}

TEST_P(FileDriver, TwoDoNotWorkInOneDirectory) {
  const auto second = make({{"file_volume_dir", rig_->directory().native()}});
  ASSERT_TRUE(second);
  const auto ready = (*second)->check_for_setup_error();
  ASSERT_FALSE(ready);
  EXPECT_EQ(ready.error().code, Errc::conflict) << ready.error().message;
}

INSTANTIATE_TEST_SUITE_P(, FileDriver, testing::Values("file_reflink", "file_plain"),
                         [](const auto& name) { return std::string(name.param); });

TEST(FileDriverSetup, AMissingDirectoryIsNotMade) {
  const fs::path missing = fs::temp_directory_path() / ("missing-" + base::new_uuid());
  const auto driver = make({{"file_volume_dir", missing.native()}});
  ASSERT_TRUE(driver);
  const auto ready = (*driver)->check_for_setup_error();
  ASSERT_FALSE(ready);
  EXPECT_NE(ready.error().message.find("[contract] file_volume_dir = " + missing.native()), std::string::npos)
      << ready.error().message;
  EXPECT_FALSE(fs::exists(missing));
}

TEST(FileDriverSetup, WrongOptionsAreNamedWithTheirSection) {
  using Options = std::map<std::string, std::string, std::less<>>;
  for (const Options& wrong : {Options{}, Options{{"file_volume_dir", "relative"}},
                               Options{{"file_volume_dir", "/"}, {"file_max_concurrency", "0"}},
                               Options{{"file_volume_dir", "/"}, {"file_max_concurrency", "many"}},
                               Options{{"file_volume_dir", "/"}, {"file_reflink_max_extents", "-1"}}}) {
    const auto driver = make(wrong);
    ASSERT_FALSE(driver);
    EXPECT_EQ(driver.error().code, Errc::invalid_argument);
    EXPECT_EQ(driver.error().message.find("[contract] file_"), 0U) << driver.error().message;
  }
}

TEST(FileDriverSpace, AFullDiskIsNoSpaceAndWhatFailedCanBeDeleted) {
  TestDirectory directory("IMAGECACHE_TEST_TINY");
  if (!std::getenv("IMAGECACHE_TEST_TINY")) ASSERT_NO_FATAL_FAILURE(mount_tiny(directory.path()));
  struct statvfs space{};
  ASSERT_EQ(::statvfs(directory.path().c_str(), &space), 0);
  const std::uint64_t total = space.f_blocks * space.f_frsize;
  ASSERT_LE(total, 64 * mib) << "IMAGECACHE_TEST_TINY names a file system that is not tiny";

  const auto driver = std::move(*make({{"file_volume_dir", directory.path().native()}}));
  ASSERT_TRUE(driver->check_for_setup_error());
  const VolumeId big{"volume-big"}, small{"volume-small"}, clone{"volume-clone"};
  const std::uint64_t free_before = driver->get_volume_stats()->free_bytes;

  RandomImage too_large({.virtual_size_bytes = total + 8 * mib, .run_bytes = mib, .dense = true});
  ASSERT_TRUE(driver->create_volume(big, total + 8 * mib));
  const auto copied = driver->copy_image_to_volume(too_large, big, {});
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Errc::no_space) << copied.error().message;
  ASSERT_TRUE(driver->delete_volume(big));
  EXPECT_GE(driver->get_volume_stats()->free_bytes + mib / 4, free_before);

  if (driver->capabilities().clone == CloneSupport::full_copy) {
    const std::uint64_t most = free_before * 2 / 3 / mib * mib;
    const RandomImage fits({.virtual_size_bytes = most, .run_bytes = mib, .dense = true});
    ASSERT_TRUE(driver->create_volume(small, most));
    ASSERT_TRUE(driver->copy_image_to_volume(fits, small, {}));
    const auto cloned = driver->create_cloned_volume({small, clone, most});
    ASSERT_FALSE(cloned);
    EXPECT_EQ(cloned.error().code, Errc::no_space) << cloned.error().message;
    EXPECT_EQ(*driver->list_volumes(), std::vector<VolumeId>{small});
  }
}

}  // namespace
}  // namespace imagecache::test
