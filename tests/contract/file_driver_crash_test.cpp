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

class FileDriverCrash : public testing::TestWithParam<Crash> {
 protected:
  static std::unique_ptr<Driver> start(const fs::path& directory) {
    auto driver = backends::find_driver("file")(MapOptions({{"file_volume_dir", directory.native()}}));
    if (!driver) return nullptr;
    const auto ready = (*driver)->check_for_setup_error();
    EXPECT_TRUE(ready) << ready.error().message;
    return ready ? std::move(*driver) : nullptr;
  }
  static bool work(Driver& driver, const ImageFile& image) {
    return driver.create_volume({"base"}, 4 * mib) && driver.copy_image_to_volume(image, {"base"}, {}) &&
           driver.create_cloned_volume({{"base"}, {"clone"}, 6 * mib}) && driver.delete_volume({"clone"});
  }
  static bool whole(const fs::path& path, const RandomImage& image, std::uint64_t size) {
    const auto content = base::read_small_file(path, 16 * mib);
    std::vector<std::byte> wanted(size);
    image.expected(0, wanted);
    return content && content->size() == size && std::memcmp(content->data(), wanted.data(), size) == 0;
  }
};

TEST_P(FileDriverCrash, LeavesWholeVolumesOrNone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const RandomImage image({.virtual_size_bytes = 4 * mib});
  std::optional<TestDirectory> own;
  if (!std::getenv(directory_variable)) {
    own.emplace("IMAGECACHE_TEST_XFS");
    ::setenv(directory_variable, own->path().c_str(), 1);
  }
  const fs::path directory = std::getenv(directory_variable);
  EXPECT_EXIT(
      {
        ::setenv("IMAGECACHE_CRASH_AT", GetParam().at, 1);
        const auto driver = start(directory);
        std::_Exit(driver && work(*driver, image) ? 0 : 1);
      },
      testing::KilledBySignal(SIGKILL), "");
  ::unsetenv(directory_variable);

  const auto driver = start(directory);
  ASSERT_NE(driver, nullptr);
  const bool clone_there = GetParam().clone_made && !GetParam().clone_deleted;
  EXPECT_EQ(driver->list_volumes()->size(), clone_there ? 2U : 1U);
  EXPECT_EQ(fs::file_size(directory / "base"), 4 * mib);
  if (GetParam().base_filled) EXPECT_TRUE(whole(directory / "base", image, 4 * mib));
  if (clone_there) EXPECT_TRUE(whole(directory / "clone", image, 6 * mib));

  // What recovery does: take away what is not known to be good, and do it again.
  ASSERT_TRUE(driver->delete_volume({"clone"}));
  ASSERT_TRUE(driver->delete_volume({"base"}));
  EXPECT_TRUE(work(*driver, image));
  EXPECT_TRUE(whole(directory / "base", image, 4 * mib));
}

INSTANTIATE_TEST_SUITE_P(
    , FileDriverCrash,
    testing::Values(Crash{"volume.linked", false, false, false}, Crash{"copy.half", false, false, false},
                    Crash{"copy.half:5", false, false, false}, Crash{"clone.created", true, false, false},
                    Crash{"clone.cloned", true, false, false}, Crash{"volume.linked:2", true, true, false},
                    Crash{"delete.unlinked", true, true, true}),
    [](const auto& crash) {
      std::string name = crash.param.at;
      std::ranges::replace(name, '.', '_');
      std::ranges::replace(name, ':', '_');
      return name;
    });

}  // namespace
}  // namespace imagecache::test
