#include <latch>
#include <thread>

#include "catalog_fixture.hpp"

namespace imagecache::catalog {
namespace {

using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::UnorderedElementsAre;

class Quotas : public CatalogTest {
 protected:
  Quotas() { defaults_ = {{"volumes", 3}, {"gigabytes", 10}, {"per_volume_gigabytes", 8}, {"snapshots", 10}}; }
  Volume sized(unsigned n, std::uint64_t size_gb, const std::string& type = "") const {
    auto made = volume(n);
    made.size_gb = size_gb;
    made.volume_type = type;
    return made;
  }
  void refused(const Result<void>& result, const std::string& message) {
    EXPECT_EQ(code_of(result), Errc::quota_exceeded);
    EXPECT_EQ(result.error().message, message);
  }
};

TEST_F(Quotas, TooManyVolumesAreRefusedInCindersWords) {
  for (unsigned n = 0; n < 3; ++n) add(sized(n, 1));
  refused(catalog_->create_volume(sized(3, 1)),
          "VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota 'volumes'.");
  EXPECT_FALSE(catalog_->find_volume(id(3)).value());
  EXPECT_EQ(quota("volumes").in_use, 3U);
  EXPECT_EQ(quota("gigabytes").in_use, 3U);
}

TEST_F(Quotas, TooManyGigabytesAreRefusedInCindersWords) {
  add(sized(0, 8));
  refused(
      catalog_->create_volume(sized(1, 5)),
      "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 5G, "
      "quota is 10G and 8G has been consumed.");
  EXPECT_OK(catalog_->create_volume(sized(2, 2)));  // exactly full
}

TEST_F(Quotas, OneVolumeThatIsTooLargeIsRefusedInCindersWords) {
  refused(catalog_->create_volume(sized(0, 9)),
          "VolumeSizeExceedsLimit: Requested volume size 9G is larger than maximum allowed limit 8G.");
  EXPECT_EQ(code_of(catalog_->create_volume(sized(0, std::uint64_t{1} << 31))), Errc::invalid_argument);
}

TEST_F(Quotas, ATypeHasQuotasOfItsOwn) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  ASSERT_OK(catalog_->set_quota("p", {{"volumes_gold", 1}, {"gigabytes_gold", 4}}));
  refused(
      catalog_->create_volume(sized(0, 5, "gold")),
      "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes_gold quota. Requested "
      "5G, quota is 4G and 0G has been consumed.");
  add(sized(1, 4, "gold"));
  refused(catalog_->create_volume(sized(2, 0, "gold")),
          "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes_gold'.");
  EXPECT_OK(catalog_->create_volume(sized(3, 5, "iron")));
  EXPECT_EQ(quota("volumes_gold").in_use, 1U);
  EXPECT_EQ(quota("gigabytes_gold").in_use, 4U);
  EXPECT_EQ(quota("gigabytes_iron").in_use, 5U);
  EXPECT_EQ(quota("gigabytes").in_use, 9U);
}

TEST_F(Quotas, WhatDoesNotCountIsNeitherRefusedNorCounted) {
  for (unsigned n = 0; n < 5; ++n) {
    auto made = sized(n, 100, "gold");
    made.counts_quota = false;
    add(made);
  }
  EXPECT_EQ(quota("volumes").in_use, 0U);
  EXPECT_EQ(quota("gigabytes_gold").in_use, 0U);
  EXPECT_OK(catalog_->resize_volume(id(0), 1000));
  EXPECT_EQ(quota("gigabytes").in_use, 0U);
}

TEST_F(Quotas, AFailedVolumeKeepsItsUsageUntilItIsRemoved) {
  add(sized(0, 5));
  ASSERT_OK(catalog_->update_volume(id(0), {.status = "error"}));
  EXPECT_EQ(quota("gigabytes").in_use, 5U);
  ASSERT_OK(catalog_->remove_volume(id(0)));
  EXPECT_EQ(quota("gigabytes").in_use, 0U);
  EXPECT_EQ(quota("volumes").in_use, 0U);
  ASSERT_OK(catalog_->remove_volume(id(0)));  // twice is once
  EXPECT_EQ(quota("volumes").in_use, 0U);
}

TEST_F(Quotas, ResizingIsCountedAndRefusedTogetherWithTheRow) {
  add(sized(0, 2, "gold"));
  add(sized(1, 4, "gold"));
  ASSERT_OK(catalog_->resize_volume(id(0), 6));
  EXPECT_EQ(quota("gigabytes").in_use, 10U);
  refused(
      catalog_->resize_volume(id(0), 7),
      "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, "
      "quota is 10G and 10G has been consumed.");
  refused(catalog_->resize_volume(id(0), 9),
          "VolumeSizeExceedsLimit: Requested volume size 9G is larger than maximum allowed limit 8G.");
  EXPECT_EQ(catalog_->find_volume(id(0)).value()->size_gb, 6U);
  EXPECT_EQ(quota("gigabytes").in_use, 10U);
  ASSERT_OK(catalog_->resize_volume(id(0), 2));  // a failed extend shrinks back
  EXPECT_EQ(quota("gigabytes_gold").in_use, 6U);
  EXPECT_EQ(code_of(catalog_->resize_volume(id(7), 2)), Errc::not_found);
}

TEST_F(Quotas, ShrinkingIsNeverRefused) {
  add(sized(0, 5));
  defaults_ = {{"volumes", 0}, {"gigabytes", 0}, {"per_volume_gigabytes", 0}};
  reopen();
  EXPECT_OK(catalog_->resize_volume(id(0), 4));
  EXPECT_EQ(code_of(catalog_->resize_volume(id(0), 5)), Errc::quota_exceeded);
}

TEST_F(Quotas, MinusOneIsUnlimited) {
  ASSERT_OK(catalog_->set_quota("p", {{"volumes", -1}, {"gigabytes", -1}, {"per_volume_gigabytes", -1}}));
  for (unsigned n = 0; n < 20; ++n) add(sized(n, 2'000'000'000));
  EXPECT_EQ(quota("gigabytes").in_use, 40'000'000'000U);
}

TEST_F(Quotas, AProjectDoesNotPayForAnother) {
  for (unsigned n = 0; n < 3; ++n) add(sized(n, 1));
  auto other = sized(3, 1);
  other.project_id = "q";
  EXPECT_OK(catalog_->create_volume(other));
  EXPECT_EQ(quota("volumes", "q").in_use, 1U);
}

TEST_F(Quotas, EveryResourceOfCinderIsThere) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold"}));
  add(sized(0, 1, "unknown to us"));  // the driver hook brings Cinder's own types
  const auto all = catalog_->quota("p").value();
  EXPECT_THAT(all, UnorderedElementsAre(Key("volumes"), Key("gigabytes"), Key("snapshots"), Key("backups"),
                                        Key("backup_gigabytes"), Key("groups"), Key("per_volume_gigabytes"),
                                        Key("volumes_gold"), Key("gigabytes_gold"), Key("snapshots_gold"),
                                        Key("volumes_unknown to us"), Key("gigabytes_unknown to us"),
                                        Key("snapshots_unknown to us")));
  EXPECT_EQ(all.at("volumes").limit, 3);
  EXPECT_EQ(all.at("volumes_gold").limit, -1);
  EXPECT_EQ(all.at("backups").limit, -1);
  const auto defaults = catalog_->quota_defaults().value();
  EXPECT_EQ(defaults.at("gigabytes"), 10);
  EXPECT_EQ(defaults.at("gigabytes_gold"), -1);
  EXPECT_FALSE(defaults.contains("volumes_unknown to us"));
}

TEST_F(Quotas, SettingIsAllOrNothing) {
  add(sized(0, 5));
  const auto bad = [&](const std::string& resource, std::int64_t limit, const std::string& why) {
    const auto refused = catalog_->set_quota("p", {{"snapshots", 7}, {resource, limit}});
    EXPECT_EQ(code_of(refused), Errc::invalid_argument);
    EXPECT_THAT(refused.error().message, HasSubstr(why));
    EXPECT_EQ(quota("snapshots").limit, 10);
  };
  bad("wishes", 1, "unknown");
  bad("volumes_wishes", 1, "unknown");
  bad("volumes", -2, "between -1");
  bad("volumes", 2'147'483'648, "between -1");
  bad("volumes", 0, "existing resources");
  bad("gigabytes", 4, "existing resources");
  EXPECT_OK(catalog_->set_quota("p", {{"gigabytes", 5}, {"volumes", 2'147'483'647}}));
  EXPECT_EQ(quota("gigabytes").limit, 5);
  EXPECT_EQ(quota("gigabytes", "q").limit, 10);
  reopen();
  EXPECT_EQ(quota("gigabytes").limit, 5);
  ASSERT_OK(catalog_->reset_quota("p"));
  EXPECT_EQ(quota("gigabytes").limit, 10);
  EXPECT_EQ(quota("gigabytes").in_use, 5U);
}

TEST_F(Quotas, AtTheEdgeExactlyTheLimitSucceeds) {
  constexpr unsigned threads = 8;
  constexpr unsigned each = 10;
  constexpr unsigned limit = 37;
  ASSERT_OK(catalog_->set_quota("p", {{"volumes", limit}, {"gigabytes", -1}}));
  std::latch start(threads);
  std::atomic<unsigned> made = 0;
  std::atomic<unsigned> over = 0;
  {
    std::vector<std::jthread> callers;
    callers.reserve(threads);
    for (unsigned thread = 0; thread < threads; ++thread) {
      callers.emplace_back([&, thread] {
        start.arrive_and_wait();
        for (unsigned n = 0; n < each; ++n) {
          const auto result = catalog_->create_volume(sized(thread * each + n, 1));
          if (result) ++made;
          if (!result && result.error().code == Errc::quota_exceeded) ++over;
        }
      });
    }
  }
  EXPECT_EQ(made, limit);
  EXPECT_EQ(over, threads * each - limit);
  EXPECT_EQ(listed({}).size(), limit);
  EXPECT_EQ(quota("volumes").in_use, limit);
}

}  // namespace
}  // namespace imagecache::catalog
