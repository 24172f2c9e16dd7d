// The power goes just after a clone was told of: a real XFS is cut off with its journal unwritten, and mounted again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cstdlib>
#include <cstring>

#include "contract/random_image.hpp"
#include "contract/rig.hpp"
#include "support/private_mount.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;
// xfs_fs.h, which Debian has in a package of its own: XFS_IOC_GOINGDOWN and XFS_FSOP_GOING_FLAGS_NOLOGFLUSH.
constexpr auto go_down = _IOR('X', 125, std::uint32_t);
constexpr std::uint32_t without_a_flush = 2;

/// Seen by this process alone.
class LoopXfs {
 public:
  LoopXfs() {
    if (!have_own_mounts()) return;
    std::ofstream(image()).close();
    fs::resize_file(image(), 512 * mib);
    fs::create_directory(path());
    EXPECT_EQ(shell("mkfs.xfs -q -m reflink=1 '" + image() + "'"), 0);
    mount();
  }
  ~LoopXfs() { ::umount2(path().c_str(), MNT_DETACH); }
  LoopXfs(const LoopXfs&) = delete;
  LoopXfs& operator=(const LoopXfs&) = delete;

  fs::path path() const { return directory_.path() / "mnt"; }
  /// Nothing may be open on it. What was not synced is lost.
  void cut_power() {
    {
      const base::Fd root(::open(path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      ASSERT_EQ(::ioctl(root.get(), go_down, &without_a_flush), 0) << std::strerror(errno);
    }
    ASSERT_EQ(::umount2(path().c_str(), 0), 0) << std::strerror(errno);
    mount();
  }

 private:
  static int shell(const std::string& command) {
    return std::system(("PATH=$PATH:/usr/sbin:/sbin; " + command).c_str());
  }
  std::string image() const { return directory_.path() / "image"; }
  void mount() { EXPECT_EQ(shell("mount -o loop '" + image() + "' '" + path().native() + "'"), 0) << "run it as root"; }

  TempDir directory_{place("IMAGECACHE_TEST_XFS")};
};

class PowerCut : public testing::Test {
 protected:
  void start() {
    driver_ = std::move(*backends::find_driver("file")(MapOptions({{"file_volume_dir", xfs_.path().native()}})));
    const auto ready = driver_->check_for_setup_error();
    ASSERT_TRUE(ready) << ready.error().message;
  }
  void make_base() {
    ASSERT_TRUE(driver_->create_volume(base_, 4 * mib));
    ASSERT_TRUE(driver_->copy_image_to_volume(image_, base_, {}));
  }
  Result<void> clone(const VolumeId& target, std::function<Result<void>()> before_named) {
    return driver_->create_cloned_volume(
        {.source = base_, .target = target, .size_bytes = 6 * mib, .before_named = std::move(before_named)});
  }
  void cut_power() {
    driver_.reset();
    ASSERT_NO_FATAL_FAILURE(xfs_.cut_power());
    ASSERT_NO_FATAL_FAILURE(start());
  }
  std::set<VolumeId> volumes() {
    const auto found = driver_->list_volumes();
    return found ? std::set(found->begin(), found->end()) : std::set<VolumeId>();
  }
  std::set<VolumeId> unnamed() {
    const auto found = driver_->list_unnamed_clones();
    return found ? std::set(found->begin(), found->end()) : std::set<VolumeId>();
  }
  void expect_whole(const VolumeId& volume) {
    const auto content = base::read_small_file(xfs_.path() / volume.name, 16 * mib);
    ASSERT_TRUE(content) << content.error().message;
    std::vector<std::byte> wanted(6 * mib);
    image_.expected(0, wanted);
    ASSERT_EQ(content->size(), wanted.size());
    EXPECT_EQ(std::memcmp(content->data(), wanted.data(), wanted.size()), 0) << volume.name;
  }

  LoopXfs xfs_;
  const RandomImage image_{{.virtual_size_bytes = 4 * mib}};
  const VolumeId base_{"volume-base"}, one_{"volume-one"}, two_{"volume-two"}, three_{"volume-three"};
  std::unique_ptr<Driver> driver_;
};

Result<void> remembered() {
  return {};
}

TEST_F(PowerCut, TakesNoMoreThanTheNameOfACloneThatSomebodyRemembers) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NO_FATAL_FAILURE(make_base());
  ASSERT_TRUE(clone(one_, remembered));
  EXPECT_EQ(volumes(), (std::set{base_, one_}));
  EXPECT_EQ(unnamed(), std::set<VolumeId>());
  ASSERT_NO_FATAL_FAILURE(cut_power());
  EXPECT_EQ(volumes(), std::set{base_}) << "its name was synced: that would be a sync too many";
  ASSERT_EQ(unnamed(), std::set{one_});
  ASSERT_TRUE(driver_->settle_unnamed_clone(one_, true));
  expect_whole(one_);
  ASSERT_NO_FATAL_FAILURE(cut_power());
  EXPECT_EQ(volumes(), (std::set{base_, one_})) << "what is settled stays so";
  EXPECT_EQ(unnamed(), std::set<VolumeId>());
  expect_whole(one_);
}

TEST_F(PowerCut, LeavesNoCloneThatNobodyRemembers) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NO_FATAL_FAILURE(make_base());
  ASSERT_FALSE(clone(one_, []() -> Result<void> { return fail(Errc::conflict, "the row is another's"); }));
  EXPECT_EQ(unnamed(), std::set<VolumeId>());
  ASSERT_NO_FATAL_FAILURE(cut_power());
  EXPECT_EQ(volumes(), std::set{base_});
  ASSERT_EQ(unnamed(), std::set{one_}) << "that it went was not synced, and need not be";
  ASSERT_TRUE(driver_->settle_unnamed_clone(one_, false));
  ASSERT_NO_FATAL_FAILURE(cut_power());
  EXPECT_EQ(volumes(), std::set{base_});
  EXPECT_EQ(unnamed(), std::set<VolumeId>());
}

TEST_F(PowerCut, LeavesTheNameToWhoeverHasItByThen) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NO_FATAL_FAILURE(make_base());
  ASSERT_TRUE(clone(one_, remembered));
  ASSERT_NO_FATAL_FAILURE(cut_power());
  ASSERT_TRUE(driver_->create_volume(one_, mib));
  ASSERT_TRUE(driver_->settle_unnamed_clone(one_, true));
  EXPECT_EQ(unnamed(), std::set<VolumeId>());
  EXPECT_EQ(fs::file_size(xfs_.path() / one_.name), mib);
}

TEST_F(PowerCut, BringsNothingBackThatWasDeleted) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NO_FATAL_FAILURE(make_base());
  ASSERT_TRUE(clone(one_, remembered));
  ASSERT_TRUE(driver_->delete_volume(one_));
  ASSERT_NO_FATAL_FAILURE(cut_power());
  EXPECT_EQ(volumes(), std::set{base_});
  EXPECT_EQ(unnamed(), std::set<VolumeId>());
}

TEST_F(PowerCut, FindsWhatIsNamedAtOnceUnderItsName) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NO_FATAL_FAILURE(make_base());
  ASSERT_TRUE(clone(two_, remembered));
  ASSERT_TRUE(clone(one_, nullptr));
  ASSERT_TRUE(clone(three_, remembered));
  ASSERT_NO_FATAL_FAILURE(cut_power());
  EXPECT_EQ(volumes(), (std::set{base_, one_, two_})) << "and so is what came before it";
  expect_whole(one_);
  expect_whole(two_);
  EXPECT_EQ(unnamed(), std::set{three_});
}

}  // namespace
}  // namespace imagecache::test
