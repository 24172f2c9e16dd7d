#include "catalog_fixture.hpp"

namespace imagecache::catalog {
namespace {

class ImageVolumes : public CatalogTest {
 protected:
  std::string victim(const std::string& backend = "fast") {
    const auto found = catalog_->least_recently_used(backend).value();
    return found ? found->volume_id : "";
  }
};

TEST_F(ImageVolumes, EveryFieldComesBackAsItWasGiven) {
  add(volume(1));
  const ImageVolume made{.volume_id = id(1),
                         .backend = "fast",
                         .content_key = "sha512:ab",
                         .image_id = "i",
                         .image_updated_at = "2026-01-01T00:00:00",
                         .requesting_project = "p",
                         .state = "building",
                         .size_gb = 3,
                         .virtual_size_bytes = 3'000'000'000,
                         .clones = 4,
                         .pinned = true,
                         .created_at = clock_.now() + 1s,
                         .last_used = clock_.now() + 2s,
                         .build_ms = 1234,
                         .used_bytes = 99};
  ASSERT_OK(catalog_->create_image_volume(made));
  for (const auto& found : {catalog_->find_image_volume("fast", "sha512:ab", "").value(),
                            catalog_->find_image_volume_by_id(id(1)).value()}) {
    ASSERT_TRUE(found);
    EXPECT_EQ(found->volume_id, made.volume_id);
    EXPECT_EQ(found->backend, made.backend);
    EXPECT_EQ(found->content_key, made.content_key);
    EXPECT_EQ(found->image_id, made.image_id);
    EXPECT_EQ(found->image_updated_at, made.image_updated_at);
    EXPECT_EQ(found->requesting_project, made.requesting_project);
    EXPECT_EQ(found->state, made.state);
    EXPECT_EQ(found->size_gb, made.size_gb);
    EXPECT_EQ(found->virtual_size_bytes, made.virtual_size_bytes);
    EXPECT_EQ(found->clones, made.clones);
    EXPECT_EQ(found->pinned, made.pinned);
    EXPECT_EQ(found->created_at, made.created_at);
    EXPECT_EQ(found->last_used, made.last_used);
    EXPECT_EQ(found->build_ms, made.build_ms);
    EXPECT_EQ(found->used_bytes, made.used_bytes);
  }
  EXPECT_FALSE(catalog_->find_image_volume("slow", "sha512:ab", "").value());
  EXPECT_FALSE(catalog_->find_image_volume_by_id(id(2)).value());
}

TEST_F(ImageVolumes, OneContentIsKeptOncePerBackendAndPool) {
  add_image_volume(1, "k");
  add(volume(2));
  EXPECT_EQ(code_of(catalog_->create_image_volume(image_volume(2, "k"))), Errc::already_exists);
  EXPECT_EQ(code_of(catalog_->create_image_volume(image_volume(1, "other"))), Errc::already_exists);
  auto elsewhere = image_volume(2, "k");
  elsewhere.backend = "slow";
  EXPECT_OK(catalog_->create_image_volume(elsewhere));
  add(volume(3));
  auto other_pool = image_volume(3, "k");
  other_pool.pool = "b";
  EXPECT_OK(catalog_->create_image_volume(other_pool));
  EXPECT_EQ(catalog_->find_image_volume("fast", "k", "b").value()->volume_id, id(3));
  EXPECT_EQ(catalog_->find_image_volume("fast", "k", "").value()->volume_id, id(1));
}

TEST_F(ImageVolumes, ItsVolumeMustBeThere) {
  EXPECT_EQ(code_of(catalog_->create_image_volume(image_volume(1, "k"))), Errc::not_found);
}

TEST_F(ImageVolumes, ItGoesWithItsVolumeAndSoDoItsTotals) {
  add_image_volume(1, "k");
  ASSERT_OK(catalog_->remove_volume(id(1)));
  EXPECT_FALSE(catalog_->find_image_volume("fast", "k", "").value());
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().count, 0U);
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().size_gb, 0U);
}

TEST_F(ImageVolumes, TotalsFollowEveryChange) {
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().count, 0U);
  add_image_volume(1, "a");
  add_image_volume(2, "b");
  ASSERT_OK(catalog_->update_image_volume(id(2), {.state = "evicting", .size_gb = 10}));
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().count, 2U);
  EXPECT_EQ(catalog_->image_volume_totals("fast").value().size_gb, 12U);
  EXPECT_EQ(catalog_->image_volume_totals("slow").value().count, 0U);
}

TEST_F(ImageVolumes, TheVictimIsTheLeastRecentlyUsedThatIsReadyAndNotPinned) {
  EXPECT_EQ(victim(), "");
  for (unsigned n = 1; n <= 4; ++n) add_image_volume(n, std::to_string(n));
  EXPECT_EQ(victim(), id(1));
  EXPECT_EQ(victim("slow"), "");
  ASSERT_OK(catalog_->update_image_volume(id(1), {.pinned = true}));
  EXPECT_EQ(victim(), id(2));
  ASSERT_OK(catalog_->update_image_volume(id(2), {.state = "evicting"}));
  EXPECT_EQ(victim(), id(3));
  ASSERT_OK(catalog_->record_uses({{.volume_id = id(3), .clones = 5, .at = clock_.now() + 100s}}));
  EXPECT_EQ(victim(), id(4));
  ASSERT_OK(catalog_->update_image_volume(id(1), {.pinned = false}));
  EXPECT_EQ(victim(), id(1));
}

TEST_F(ImageVolumes, UsesAddUpAndTimeDoesNotGoBack) {
  add_image_volume(1, "k");
  const auto last = clock_.now() + 50s;
  ASSERT_OK(catalog_->record_uses({{id(1), 2, last}, {"gone by now", 1, last}, {id(1), 3, clock_.now()}}));
  const auto found = catalog_->find_image_volume_by_id(id(1)).value();
  EXPECT_EQ(found->clones, 5U);
  EXPECT_EQ(found->last_used, last);
}

TEST_F(ImageVolumes, KnowWhomTheyHaveServedUntilTheyGo) {
  add_image_volume(1, "k");
  const auto made_for = catalog_->list_image_volume_uses().value();
  ASSERT_EQ(made_for.size(), 1U) << "whose request built it";
  EXPECT_EQ(made_for[0].clones, 0U);
  const auto at = clock_.now() + 5s;
  const auto use = [&](const std::string& image, const std::string& project, std::uint64_t saved_ms) {
    return Catalog::Use{
        .volume_id = id(1), .clones = 1, .at = at, .image_id = image, .project_id = project, .saved_ms = saved_ms};
  };
  ASSERT_OK(catalog_->record_uses({use("i9", "q", 100), use("i9", "q", 50), use("i9", "r", 7)}));
  ASSERT_OK(catalog_->record_seen(id(1), "i9", at));
  std::map<std::string, ImageVolumeUse> by_project;
  for (const auto& one : catalog_->list_image_volume_uses().value()) {
    if (one.image_id == "i9") by_project[one.project_id] = one;
  }
  ASSERT_EQ(by_project.size(), 2U);
  EXPECT_EQ(by_project["q"].clones, 2U);
  EXPECT_EQ(by_project["q"].saved_ms, 150U);
  EXPECT_EQ(by_project["q"].last_used, at);
  EXPECT_EQ(by_project["r"].seen_at, at) << "an image is seen, whoever uses it";
  EXPECT_EQ(catalog_->find_image_volume_by_id(id(1)).value()->clones, 3U);
  ASSERT_OK(catalog_->remove_volume(id(1)));
  EXPECT_TRUE(catalog_->list_image_volume_uses().value().empty());
}

TEST_F(ImageVolumes, WhatWasNotKeptIsCountedAndTheLatestAreRemembered) {
  ASSERT_OK(catalog_->record_refusal({.backend = "fast",
                                      .image_id = "i",
                                      .kind = "quota",
                                      .reason = "full",
                                      .project_id = "p",
                                      .size_gb = 3,
                                      .last_at = clock_.now()}));
  ASSERT_OK(catalog_->record_refusal({.backend = "fast",
                                      .image_id = "i",
                                      .kind = "quota",
                                      .reason = "still full",
                                      .project_id = "q",
                                      .size_gb = 3,
                                      .last_at = clock_.now() + 1s}));
  const auto one = catalog_->list_refusals().value();
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].count, 2U);
  EXPECT_EQ(one[0].reason, "still full");
  EXPECT_EQ(one[0].project_id, "q");
  EXPECT_EQ(one[0].first_at, clock_.now());
  EXPECT_EQ(one[0].last_at, clock_.now() + 1s);
  for (unsigned n = 0; n < refusals_kept; ++n) {
    ASSERT_OK(catalog_->record_refusal({.backend = "slow",
                                        .image_id = std::to_string(n),
                                        .kind = "limit",
                                        .last_at = clock_.now() + std::chrono::seconds(2 + n)}));
  }
  const auto kept = catalog_->list_refusals().value();
  ASSERT_EQ(kept.size(), refusals_kept);
  EXPECT_EQ(kept.front().image_id, std::to_string(refusals_kept - 1));
  EXPECT_EQ(kept.back().image_id, "0") << "the oldest has gone";
}

TEST_F(ImageVolumes, ManyUsesAreOneWrite) {
  for (unsigned n = 1; n <= 10; ++n) add_image_volume(n, std::to_string(n));
  std::vector<Catalog::Use> uses;
  uses.reserve(1000);
  for (unsigned n = 0; n < 1000; ++n) uses.push_back({id(1 + n % 10), 1, clock_.now()});
  const auto before = catalog_->write_counts().transactions;
  ASSERT_OK(catalog_->record_uses(uses));
  ASSERT_OK(catalog_->record_uses({}));
  EXPECT_EQ(catalog_->write_counts().transactions, before + 1);
}

TEST_F(ImageVolumes, UpdateWritesWhatIsGiven) {
  add_image_volume(1, "k");
  ASSERT_OK(catalog_->update_image_volume(id(1), {.virtual_size_bytes = 77, .build_ms = 88}));
  const auto found = catalog_->find_image_volume_by_id(id(1)).value();
  EXPECT_EQ(found->virtual_size_bytes, 77U);
  EXPECT_EQ(found->build_ms, 88U);
  EXPECT_EQ(found->state, "ready");
  EXPECT_EQ(found->size_gb, 2U);
  EXPECT_EQ(code_of(catalog_->update_image_volume(id(2), {.state = "ready"})), Errc::not_found);
  EXPECT_EQ(code_of(catalog_->update_image_volume(id(2), {})), Errc::not_found);
}

TEST_F(ImageVolumes, ListsAllOrOneBackends) {
  add_image_volume(1, "a");
  add(volume(2));
  auto elsewhere = image_volume(2, "a");
  elsewhere.backend = "slow";
  ASSERT_OK(catalog_->create_image_volume(elsewhere));
  EXPECT_EQ(catalog_->list_image_volumes(std::nullopt).value().size(), 2U);
  const auto slow = catalog_->list_image_volumes("slow").value();
  ASSERT_EQ(slow.size(), 1U);
  EXPECT_EQ(slow[0].volume_id, id(2));
}

}  // namespace
}  // namespace imagecache::catalog
