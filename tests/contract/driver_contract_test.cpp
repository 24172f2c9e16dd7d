// What every driver must do, whatever it stands on: include/imagecache/driver.hpp as tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <latch>
#include <set>
#include <thread>

#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;

#define ASSERT_OK(expression)                                        \
  do {                                                               \
    const auto ok_result = (expression);                             \
    ASSERT_TRUE(ok_result.has_value()) << ok_result.error().message; \
  } while (false)

#define EXPECT_FAILS(code_expected, expression)                                              \
  do {                                                                                       \
    const auto failed_result = (expression);                                                 \
    EXPECT_FALSE(failed_result.has_value()) << "should have failed";                         \
    if (!failed_result) {                                                                    \
      EXPECT_EQ(failed_result.error().code, code_expected) << failed_result.error().message; \
      EXPECT_NE(failed_result.error().message, "");                                          \
    }                                                                                        \
  } while (false)

class DriverContract : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    rig_ = make_rig(GetParam());
    ASSERT_NE(rig_, nullptr) << "no rig of this name";
  }
  Driver& driver() { return rig_->driver(); }

  std::set<std::string> names() {
    const auto listed = driver().list_volumes();
    EXPECT_TRUE(listed) << listed.error().message;
    std::set<std::string> names;
    for (const VolumeId& volume : *listed) EXPECT_TRUE(names.insert(volume.name).second) << volume.name << " twice";
    return names;
  }

  /// The volume has exactly `size` bytes: the image's, then zeroes. Null: all zeroes.
  void expect_content(const VolumeId& volume, const RandomImage* image, std::uint64_t size) {
    std::vector<std::byte> found(mib), wanted(mib);
    for (std::uint64_t at = 0; at < size; at += mib) {
      const std::size_t part = std::min(mib, size - at);
      const auto got = rig_->read(volume, at, std::span(found).first(part));
      ASSERT_TRUE(got) << got.error().message;
      ASSERT_EQ(*got, part) << volume.name << " ends early, at " << at + *got;
      std::ranges::fill(wanted, std::byte{0});
      if (image) image->expected(at, std::span(wanted).first(part));
      ASSERT_EQ(std::memcmp(found.data(), wanted.data(), part), 0)
          << volume.name << " differs within the MiB at " << at;
    }
    const auto behind = rig_->read(volume, size, std::span(found).first(1));
    ASSERT_TRUE(behind) << behind.error().message;
    EXPECT_EQ(*behind, 0U) << volume.name << " is longer than " << size;
  }

  /// An image-volume, ready to be cloned.
  void make_image_volume(const VolumeId& volume, const RandomImage& image, std::uint64_t size) {
    ASSERT_OK(driver().create_volume(volume, size));
    ASSERT_OK(driver().copy_image_to_volume(image, volume, {}));
    ASSERT_OK(driver().seal(volume));
  }

  std::unique_ptr<Rig> rig_;
  const VolumeId base_{"volume-base"}, one_{"volume-1"}, two_{"volume-2"};
};

TEST_P(DriverContract, ANewVolumeIsThereAndReadsAsZeroes) {
  ASSERT_OK(driver().create_volume(one_, 3 * mib));
  expect_content(one_, nullptr, 3 * mib);
  EXPECT_EQ(names(), std::set<std::string>{"volume-1"});
}

TEST_P(DriverContract, ANameIsTakenOnlyOnce) {
  const RandomImage image({.virtual_size_bytes = 2 * mib});
  make_image_volume(one_, image, 2 * mib);
  EXPECT_FAILS(Errc::already_exists, driver().create_volume(one_, 4 * mib));
  expect_content(one_, &image, 2 * mib);
}

TEST_P(DriverContract, OfManyWhoCreateOneNameAtOnceOneDoes) {
  std::atomic<int> made = 0, refused = 0;
  {
    std::latch together(4);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        together.arrive_and_wait();
        const auto result = driver().create_volume(one_, mib);
        if (result) ++made;
        if (!result && result.error().code == Errc::already_exists) ++refused;
      });
    }
  }
  EXPECT_EQ(made, 1);
  EXPECT_EQ(refused, 3);
  expect_content(one_, nullptr, mib);
}

TEST_P(DriverContract, AnImageLandsWhereItBelongsWhateverTheOrderOfItsRuns) {
  const RandomImage image({.virtual_size_bytes = 11 * mib, .run_bytes = 200 * 512, .threads = 4});
  make_image_volume(base_, image, 11 * mib);
  expect_content(base_, &image, 11 * mib);
}

TEST_P(DriverContract, AnImageMayEndInTheMiddleOfABlockAndBeSmallerThanItsVolume) {
  const RandomImage image({.virtual_size_bytes = 2 * mib + 700, .dense = true});
  make_image_volume(base_, image, 4 * mib);
  expect_content(base_, &image, 4 * mib);
}

TEST_P(DriverContract, AnImageOfNothingButHolesIsAVolumeOfZeroes) {
  RandomImage image({.virtual_size_bytes = 0});
  make_image_volume(base_, image, 2 * mib);
  expect_content(base_, nullptr, 2 * mib);
}

TEST_P(DriverContract, AnImageLargerThanTheVolumeIsRefused) {
  const RandomImage image({.virtual_size_bytes = 3 * mib});
  ASSERT_OK(driver().create_volume(one_, 2 * mib));
  EXPECT_FAILS(Errc::invalid_argument, driver().copy_image_to_volume(image, one_, {}));
  expect_content(one_, nullptr, 2 * mib);
}

TEST_P(DriverContract, AnImageThatWritesBehindItsEndCannotGrowTheVolume) {
  class Liar final : public RandomImage {
   public:
    using RandomImage::RandomImage;
    std::uint64_t virtual_size_bytes() const override { return mib; }
  };
  const Liar image({.virtual_size_bytes = 3 * mib, .dense = true});
  ASSERT_OK(driver().create_volume(one_, mib));
  EXPECT_FAILS(Errc::corrupt, driver().copy_image_to_volume(image, one_, {}));
  std::vector<std::byte> byte(1);
  EXPECT_EQ(rig_->read(one_, mib, byte).value_or(99), 0U);
}

TEST_P(DriverContract, AnImageIsNotCopiedIntoAVolumeThatIsNotThere) {
  const RandomImage image({.virtual_size_bytes = mib});
  EXPECT_FAILS(Errc::not_found, driver().copy_image_to_volume(image, one_, {}));
  EXPECT_TRUE(names().empty());
}

TEST_P(DriverContract, AStopInTheMiddleEndsTheCopyAndTheVolumeCanBeDeleted) {
  RandomImage image({.virtual_size_bytes = 16 * mib, .dense = true, .threads = 2});
  std::stop_source stop;
  image.before_run = [&](std::size_t run) {
    if (run == 3) stop.request_stop();
  };
  ASSERT_OK(driver().create_volume(one_, 16 * mib));
  EXPECT_FAILS(Errc::cancelled, driver().copy_image_to_volume(image, one_, stop.get_token()));
  ASSERT_OK(driver().delete_volume(one_));
  EXPECT_TRUE(names().empty());
}

TEST_P(DriverContract, ACopyThatIsStoppedBeforeItBeginsIsCancelled) {
  const RandomImage image({.virtual_size_bytes = mib});
  std::stop_source stop;
  stop.request_stop();
  ASSERT_OK(driver().create_volume(one_, mib));
  EXPECT_FAILS(Errc::cancelled, driver().copy_image_to_volume(image, one_, stop.get_token()));
}

TEST_P(DriverContract, SealingTwiceIsSealingOnce) {
  const RandomImage image({.virtual_size_bytes = mib});
  make_image_volume(base_, image, mib);
  ASSERT_OK(driver().seal(base_));
  ASSERT_OK(driver().create_cloned_volume({base_, one_, mib}));
  ASSERT_OK(driver().seal(base_));
  expect_content(one_, &image, mib);
}

TEST_P(DriverContract, ACloneHasTheSourcesContentAndSize) {
  const RandomImage image({.virtual_size_bytes = 5 * mib});
  make_image_volume(base_, image, 5 * mib);
  ASSERT_OK(driver().create_cloned_volume({base_, one_, 5 * mib}));
  expect_content(one_, &image, 5 * mib);
  EXPECT_EQ(names(), (std::set<std::string>{"volume-1", "volume-base"}));
}

TEST_P(DriverContract, ALargerCloneHasZeroesBehindTheContent) {
  const RandomImage image({.virtual_size_bytes = 2 * mib + 512, .dense = true});
  make_image_volume(base_, image, 2 * mib + 512);
  ASSERT_OK(driver().create_cloned_volume({base_, one_, 7 * mib}));
  expect_content(one_, &image, 7 * mib);
  expect_content(base_, &image, 2 * mib + 512);
}

TEST_P(DriverContract, ACloneOfACloneIsWhole) {
  const RandomImage image({.virtual_size_bytes = 2 * mib});
  make_image_volume(base_, image, 2 * mib);
  ASSERT_OK(driver().create_cloned_volume({base_, one_, 3 * mib}));
  ASSERT_OK(driver().seal(one_));
  ASSERT_OK(driver().create_cloned_volume({one_, two_, 4 * mib}));
  expect_content(two_, &image, 4 * mib);
}

TEST_P(DriverContract, ACloneOfAMissingSourceLeavesNothing) {
  EXPECT_FAILS(Errc::not_found, driver().create_cloned_volume({base_, one_, mib}));
  EXPECT_TRUE(names().empty());
}

TEST_P(DriverContract, ACloneNeverReplacesAVolume) {
  const RandomImage image({.virtual_size_bytes = mib}, 1), other({.virtual_size_bytes = 2 * mib}, 2);
  make_image_volume(base_, image, mib);
  make_image_volume(one_, other, 2 * mib);
  EXPECT_FAILS(Errc::already_exists, driver().create_cloned_volume({base_, one_, 2 * mib}));
  expect_content(one_, &other, 2 * mib);
  EXPECT_EQ(names(), (std::set<std::string>{"volume-1", "volume-base"}));
}

TEST_P(DriverContract, WhatComesBeforeACloneHasItsNameCanStillPreventIt) {
  if (!driver().capabilities().atomic_clones) return;  // the service does not ask such a driver
  const RandomImage image({.virtual_size_bytes = 4 * mib});
  ASSERT_NO_FATAL_FAILURE(make_image_volume(base_, image, 4 * mib));
  const auto before = names();
  CloneSpec clone{.source = base_, .target = one_, .size_bytes = 6 * mib, .before_named = [&]() -> Result<void> {
                    EXPECT_EQ(names(), before);
                    return fail(Errc::conflict, "not this time");
                  }};
  EXPECT_FAILS(Errc::conflict, driver().create_cloned_volume(clone));
  EXPECT_EQ(names(), before);
  clone.before_named = [&]() -> Result<void> {
    EXPECT_EQ(names(), before);
    return {};
  };
  ASSERT_OK(driver().create_cloned_volume(clone));
  ASSERT_NO_FATAL_FAILURE(expect_content(one_, &image, 6 * mib));
}

TEST_P(DriverContract, ManyClonesOfOneSourceAtOnceAreAllWhole) {
  const RandomImage image({.virtual_size_bytes = 3 * mib});
  make_image_volume(base_, image, 3 * mib);
  const unsigned workers = std::min(8U, driver().capabilities().max_concurrency);
  std::atomic<int> failed = 0;
  {
    std::latch together(workers);
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < workers; ++t) {
      threads.emplace_back([&, t] {
        together.arrive_and_wait();
        for (unsigned i = 0; i < 4; ++i) {
          const VolumeId target{"volume-" + std::to_string(t) + "-" + std::to_string(i)};
          if (!driver().create_cloned_volume({base_, target, (3 + i) * mib})) ++failed;
        }
      });
    }
  }
  EXPECT_EQ(failed, 0);
  ASSERT_EQ(names().size(), workers * 4 + 1);
  for (unsigned t = 0; t < workers; ++t) {
    for (unsigned i = 0; i < 4; ++i) {
      expect_content({"volume-" + std::to_string(t) + "-" + std::to_string(i)}, &image, (3 + i) * mib);
    }
  }
}

TEST_P(DriverContract, DeletingTheSourceLeavesItsClonesWhole) {
  const RandomImage image({.virtual_size_bytes = 3 * mib});
  make_image_volume(base_, image, 3 * mib);
  ASSERT_OK(driver().create_cloned_volume({base_, one_, 3 * mib}));
  ASSERT_OK(driver().create_cloned_volume({base_, two_, 4 * mib}));
  ASSERT_OK(driver().delete_volume(base_));
  ASSERT_OK(driver().delete_volume(two_));
  expect_content(one_, &image, 3 * mib);
  EXPECT_EQ(names(), std::set<std::string>{"volume-1"});
}

TEST_P(DriverContract, AVolumeGrowsAndKeepsItsContent) {
  const RandomImage image({.virtual_size_bytes = mib});
  make_image_volume(base_, image, mib);
  ASSERT_OK(driver().create_cloned_volume({base_, one_, 2 * mib}));
  ASSERT_OK(driver().extend_volume(one_, 5 * mib));
  ASSERT_OK(driver().extend_volume(one_, 5 * mib));
  expect_content(one_, &image, 5 * mib);
  expect_content(base_, &image, mib);
}

TEST_P(DriverContract, AVolumeNeverShrinks) {
  ASSERT_OK(driver().create_volume(one_, 2 * mib));
  EXPECT_FAILS(Errc::invalid_argument, driver().extend_volume(one_, mib));
  expect_content(one_, nullptr, 2 * mib);
  EXPECT_FAILS(Errc::not_found, driver().extend_volume(two_, mib));
}

TEST_P(DriverContract, DeletingWhatIsNotThereIsASuccess) {
  ASSERT_OK(driver().delete_volume(one_));
  ASSERT_OK(driver().create_volume(one_, mib));
  ASSERT_OK(driver().delete_volume(one_));
  ASSERT_OK(driver().delete_volume(one_));
  EXPECT_TRUE(names().empty());
}

TEST_P(DriverContract, ADeletedNameCanBeUsedAgainAndHoldsNothingOld) {
  const RandomImage image({.virtual_size_bytes = mib});
  make_image_volume(one_, image, mib);
  ASSERT_OK(driver().delete_volume(one_));
  ASSERT_OK(driver().create_volume(one_, 2 * mib));
  expect_content(one_, nullptr, 2 * mib);
}

TEST_P(DriverContract, AVolumeThatCanBeReadIsReadWhole) {
  const RandomImage image({.virtual_size_bytes = 5 * mib + 4096});
  ASSERT_OK(driver().create_volume(one_, 8 * mib));
  ASSERT_OK(driver().copy_image_to_volume(image, one_, {}));
  auto reader = driver().read_volume(one_);
  EXPECT_EQ(reader.has_value(), driver().capabilities().can_read_volumes);
  if (!reader) {
    EXPECT_EQ(reader.error().code, Errc::unsupported) << reader.error().message;
    return;
  }
  EXPECT_EQ((*reader)->size_bytes(), 8 * mib);
  std::vector<std::byte> found(8 * mib), wanted(8 * mib);
  // What is passed over as holes reads as zeroes.
  for (std::uint64_t at = 0; at < found.size();) {
    const auto data = (*reader)->next_data(at);
    ASSERT_TRUE(data) << data.error().message;
    ASSERT_GE(*data, at);
    if (*data >= found.size()) break;
    at = *data;
    const std::size_t part = std::min<std::uint64_t>(mib / 2, found.size() - at);
    ASSERT_OK((*reader)->read(at, std::span(found).subspan(at, part)));
    at += part;
  }
  image.expected(0, wanted);
  EXPECT_EQ(std::memcmp(found.data(), wanted.data(), found.size()), 0);
  reader->reset();
  EXPECT_FAILS(Errc::not_found, driver().read_volume(two_));
}

TEST_P(DriverContract, WhatAVolumeHoldsIsBelievableIfItIsKnown) {
  make_image_volume(one_, RandomImage({.virtual_size_bytes = 4 * mib}), 64 * mib);
  ASSERT_OK(driver().seal(one_));
  const auto used = driver().used_bytes(one_);
  ASSERT_TRUE(used) << used.error().message;
  if (!*used) return;
  EXPECT_GT(**used, 0U);
  EXPECT_LE(**used, 64 * mib);
}

TEST_P(DriverContract, NothingIsToBeConnectedToWhereNoVolumeIs) {
  EXPECT_FAILS(Errc::not_found, driver().initialize_connection(one_));
}

TEST_P(DriverContract, TheStatsAreBelievable) {
  const auto stats = driver().get_volume_stats();
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_GT(stats->total_bytes, 0U);
  EXPECT_LE(stats->free_bytes, stats->total_bytes);
}

TEST_P(DriverContract, TheCapabilitiesAreOfUse) {
  const Capabilities capabilities = driver().capabilities();
  EXPECT_GE(capabilities.max_concurrency, 1U);
  EXPECT_EQ(capabilities.clone, driver().capabilities().clone);
}

INSTANTIATE_TEST_SUITE_P(, DriverContract, testing::ValuesIn(rigs()),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
}  // namespace imagecache::test
