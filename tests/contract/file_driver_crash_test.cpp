// A process that is killed in the middle leaves whole volumes or none, and the next one goes on from there.
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>

#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;
// The killed process is this test binary started anew; this tells it where to work.
constexpr auto directory_variable = "CONTRACT_CRASH_DIRECTORY";

struct Crash {
  const char* at;  ///< as IMAGECACHE_CRASH_AT
  bool base_filled, clone_made, clone_deleted;
};
void PrintTo(const Crash& crash, std::ostream* out) {
  *out << crash.at;
}

class FileDriverCrash : public testing::TestWithParam<std::tuple<std::string, Crash>> {
 protected:
  static bool on_shares() { return std::get<0>(GetParam()) == "nfs"; }
  static const Crash& crash() { return std::get<1>(GetParam()); }

  /// Makes where the driver is to work, unless this is the process that will be killed: it is told by the variable, and
  /// has the mounts of the one that started it.
  void SetUp() override {
    if (std::getenv(directory_variable)) return;
    if (on_shares()) {
      shares_.emplace(place("IMAGECACHE_TEST_XFS"), std::vector<std::string>{"127.0.0.1:/one", "127.0.0.1:/two"});
      ::setenv(directory_variable, shares_->base().parent_path().c_str(), 1);
    } else {
      own_.emplace("IMAGECACHE_TEST_XFS");
      ::setenv(directory_variable, own_->path().c_str(), 1);
    }
  }
  static std::unique_ptr<Driver> start(const fs::path& directory) {
    const auto driver_name = on_shares() ? nfs_driver : "file";
    auto driver = backends::find_driver(driver_name)(MapOptions({{"file_volume_dir", directory.native()},
                                                                 {"nfs_shares_config", directory / "shares"},
                                                                 {"nfs_mount_point_base", directory / "mnt"}}));
    if (!driver) return nullptr;
    const auto ready = (*driver)->check_for_setup_error();
    EXPECT_TRUE(ready) << ready.error().message;
    return ready ? std::move(*driver) : nullptr;
  }
  static bool work(Driver& driver, const ImageFile& image) {
    return driver.create_volume(base_, 4 * mib) && driver.copy_image_to_volume(image, base_, {}) &&
           driver.create_cloned_volume({base_, clone_, 6 * mib}) && driver.delete_volume(clone_);
  }
  /// Where the volume is; one place at most.
  static fs::path path(const fs::path& directory, const VolumeId& volume) {
    if (!on_shares()) return directory / volume.name;
    std::vector<fs::path> found;
    for (const auto& share : fs::directory_iterator(directory / "mnt")) {
      if (fs::exists(share.path() / volume.name)) found.push_back(share.path() / volume.name);
    }
    EXPECT_LE(found.size(), 1U) << volume.name;
    return found.empty() ? fs::path() : found.front();
  }
  static bool whole(const fs::path& path, const RandomImage& image, std::uint64_t size) {
    const auto content = base::read_small_file(path, 16 * mib);
    std::vector<std::byte> wanted(size);
    image.expected(0, wanted);
    return content && content->size() == size && std::memcmp(content->data(), wanted.data(), size) == 0;
  }

  static inline const VolumeId base_{"volume-base"}, clone_{"volume-clone"};
  std::optional<TestDirectory> own_;
  std::optional<ShareMounts> shares_;
};

TEST_P(FileDriverCrash, LeavesWholeVolumesOrNone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const RandomImage image({.virtual_size_bytes = 4 * mib});
  const fs::path directory = std::getenv(directory_variable);
  EXPECT_EXIT(
      {
        ::setenv("IMAGECACHE_CRASH_AT", crash().at, 1);
        const auto driver = start(directory);
        std::_Exit(driver && work(*driver, image) ? 0 : 1);
      },
      testing::KilledBySignal(SIGKILL), "");
  ::unsetenv(directory_variable);

  const auto driver = start(directory);
  ASSERT_NE(driver, nullptr);
  const bool clone_there = crash().clone_made && !crash().clone_deleted;
  EXPECT_EQ(driver->list_volumes()->size(), clone_there ? 2U : 1U);
  EXPECT_EQ(fs::file_size(path(directory, base_)), 4 * mib);
  if (crash().base_filled) EXPECT_TRUE(whole(path(directory, base_), image, 4 * mib));
  if (clone_there) EXPECT_TRUE(whole(path(directory, clone_), image, 6 * mib));

  // What recovery does: take away what is not known to be good, and do it again.
  ASSERT_TRUE(driver->delete_volume(clone_));
  ASSERT_TRUE(driver->delete_volume(base_));
  EXPECT_TRUE(work(*driver, image));
  EXPECT_TRUE(whole(path(directory, base_), image, 4 * mib));
}

TEST(ReplicaCrash, LeavesAWholeReplicaOrNone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const RandomImage image({.virtual_size_bytes = 4 * mib});
  const VolumeId base{"volume-base"}, clone{"volume-clone"};
  std::optional<ShareMounts> shares;
  const auto start = [] {
    const fs::path directory = std::getenv(directory_variable);
    auto driver = std::move(*backends::find_driver(nfs_driver)(MapOptions({{"nfs_shares_config", directory / "shares"},
                                                                           {"nfs_mount_point_base", directory / "mnt"},
                                                                           {"max_over_subscription_ratio", "2"}})));
    EXPECT_TRUE(driver->check_for_setup_error());
    return driver;
  };
  const auto replicas = [] {
    std::size_t count = 0;
    for (const auto& file : fs::recursive_directory_iterator(fs::path(std::getenv(directory_variable)) / "mnt")) {
      count += file.is_regular_file() && file.path().filename() != "lock" && file.path().extension() == ".replica";
    }
    return count;
  };
  if (!std::getenv(directory_variable)) {
    shares.emplace(place("IMAGECACHE_TEST_XFS"), std::vector<std::string>{"127.0.0.1:/one", "127.0.0.1:/two"});
    ::setenv(directory_variable, shares->base().parent_path().c_str(), 1);
    const auto driver = start();
    ASSERT_TRUE(driver->create_volume(base, 4 * mib) && driver->copy_image_to_volume(image, base, {}));
    // No clone fits beside its source any more.
    const fs::path home = shares->exported(*driver->model_update(base)->provider_location);
    std::ofstream(home / "filler") << "x";
    fs::resize_file(home / "filler", driver->get_volume_stats()->total_bytes);
  }
  EXPECT_EXIT(
      {
        ::setenv("IMAGECACHE_CRASH_AT", "replica.copied", 1);
        static_cast<void>(start()->create_cloned_volume({base, clone, 6 * mib}));
        std::_Exit(0);
      },
      testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(replicas(), 0U);
  const auto driver = start();
  EXPECT_EQ(driver->list_volumes()->size(), 1U);
  const auto cloned = driver->create_cloned_volume({base, clone, 6 * mib});
  EXPECT_TRUE(cloned) << cloned.error().message;
  EXPECT_EQ(replicas(), 1U);
  ::unsetenv(directory_variable);
}

INSTANTIATE_TEST_SUITE_P(, FileDriverCrash,
                         testing::Combine(testing::Values("file", "nfs"),
                                          testing::Values(Crash{"volume.linked", false, false, false},
                                                          Crash{"copy.half", false, false, false},
                                                          Crash{"copy.half:5", false, false, false},
                                                          Crash{"clone.created", true, false, false},
                                                          Crash{"clone.cloned", true, false, false},
                                                          Crash{"volume.linked:2", true, true, false},
                                                          Crash{"delete.unlinked", true, true, true})),
                         [](const auto& param) {
                           std::string name = std::get<0>(param.param) + "_" + std::get<1>(param.param).at;
                           std::ranges::replace(name, '.', '_');
                           std::ranges::replace(name, ':', '_');
                           return name;
                         });

}  // namespace
}  // namespace imagecache::test
