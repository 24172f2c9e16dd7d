// What is done without anybody asking: image-volumes that are unused, too many, or of images that are no more; images
// that are kept warm.
#include <gmock/gmock.h>

#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

class Unasked : public Rig {
 protected:
  /// Ids of the images whose content is kept.
  std::set<std::string> kept() {
    std::set<std::string> images;
    for (const auto& image_volume : image_volumes()) images.insert(image_volume.image_id);
    return images;
  }
  std::string image(char letter) { return origin_.add(content(letter)).id; }
  Result<Created> create_later(const std::string& image_id) {
    clock_.advance(seconds(1));
    return create(wish(image_id));
  }
  template <class Round>
  void round(Round call) {
    const auto run_it = [](VolumeCache* cache, Round which) -> base::Task<bool> {
      co_await (cache->*which)();
      co_return true;
    };
    ASSERT_TRUE(run(run_it(volumes_.get(), call)));
  }
  void upkeep() { round(&VolumeCache::upkeep); }
  void poll() { round(&VolumeCache::poll); }
  void review(const std::string& image_id, bool is_said_deleted) {
    const auto run_it = [](VolumeCache* cache, std::string id, bool deleted) -> base::Task<bool> {
      co_await cache->review(std::move(id), deleted);
      co_return true;
    };
    ASSERT_TRUE(run(run_it(volumes_.get(), image_id, is_said_deleted)));
  }
  void warm_ahead() { round(&VolumeCache::warm_ahead); }
  std::future<bool> begin_warming() {
    return begin([](VolumeCache* cache) -> base::Task<bool> {
      co_await cache->warm_ahead();
      co_return true;
    }(volumes_.get()));
  }
  void pin(const std::string& image_id) {
    for (const auto& one : image_volumes()) {
      if (one.image_id == image_id) ASSERT_TRUE(run(volumes_->pin(one.volume_id, true)));
    }
  }
};

TEST_F(Unasked, WhatNobodyUsesForTheTtlGoesAndWhatIsPinnedOrInUseStays) {
  options_.ttl = seconds(100);
  start();
  const auto a = image('a'), b = image('b'), c = image('c'), d = image('d');
  for (const auto& id : {a, b, c, d}) ASSERT_TRUE(create_later(id));
  pin(b);
  clock_.advance(seconds(60));
  ASSERT_TRUE(create_later(c));
  clock_.advance(seconds(60));
  upkeep();
  EXPECT_EQ(kept(), (std::set{b, c}));
  EXPECT_EQ(counters_.image_volumes_expired, 2U);
  EXPECT_EQ(counters_.image_volume_evictions, 2U);

  clock_.advance(seconds(200));
  driver().hold(Op::clone);
  auto cloning = begin_create(wish(c));
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  upkeep();
  EXPECT_EQ(kept(), (std::set{b, c}));
  driver().release(Op::clone);
  EXPECT_TRUE(cloning.get());
}

TEST_F(Unasked, WhatIsSaidToBeDeletedGoesAtOnceIfTheOriginAgrees) {
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  for (const auto& id : {a, b, c}) ASSERT_TRUE(create_later(id));
  poll();  // the service's account has seen them
  review(a, true);
  EXPECT_EQ(kept(), (std::set{a, b, c})) << "it is there, whatever is said";
  origin_.remove(a);
  review(a, false);
  EXPECT_EQ(kept(), (std::set{a, b, c})) << "not found, once, and nobody says that it was deleted";
  review(b, true);
  review(base::new_uuid(), true);
  EXPECT_EQ(kept(), (std::set{a, b, c}));
  pin(c);
  origin_.remove(c);
  review(c, true);
  review(a, true);
  EXPECT_EQ(kept(), (std::set{b, c})) << "a is gone, c is pinned";
  EXPECT_EQ(counters_.image_volumes_orphaned, 1U);
}

TEST_F(Unasked, WhatTheServicesAccountHasNeverSeenIsNotTakenForDeleted) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  origin_.remove(a);  // or is not shown: it cannot tell
  review(a, true);
  EXPECT_EQ(kept(), std::set{a});
}

TEST_F(Unasked, WhatIsSaidToBeAnotherGoesIfItsBytesAre) {
  start();
  auto info = origin_.add(content('a'));
  ASSERT_TRUE(create_later(info.id));
  review(info.id, false);
  EXPECT_EQ(kept(), std::set{info.id});
  auto other = origin_.add(content('b'));
  other.id = info.id;
  origin_.put(other, content('b'));
  ASSERT_TRUE(create_later(info.id));
  EXPECT_EQ(image_volumes().size(), 2U);
  review(info.id, false);
  ASSERT_EQ(image_volumes().size(), 1U);
  EXPECT_TRUE(image_volumes().at(0).content_key.starts_with(other.content_key()));
}

TEST_F(Unasked, MarksAndTtlHoldInEachPool) {
  backend_options_["fast"].image_volume_cache_max_count = 4;
  options_.high_percent = 50;
  options_.low_percent = 25;
  start();
  const auto fill = [&](const std::string& pool, const std::string& image_id) {
    clock_.advance(seconds(1));
    auto request = wish(image_id, 1, "fast");
    request.pool = pool;
    ASSERT_TRUE(create(request));
  };
  const auto a = image('a'), b = image('b'), c = image('c'), d = image('d');
  for (const auto& id : {a, b}) fill("one", id);
  for (const auto& id : {b, c, d}) fill("two", id);
  upkeep();
  std::map<std::string, std::set<std::string>> kept_in;
  for (const auto& one : image_volumes()) kept_in[one.pool].insert(one.image_id);
  EXPECT_EQ(kept_in["one"], (std::set{a, b})) << "not above its mark, whatever is in the other pool";
  EXPECT_EQ(kept_in["two"], std::set{d});

  options_.ttl = seconds(100);
  restart();
  clock_.advance(seconds(200));
  upkeep();
  EXPECT_TRUE(image_volumes().empty()) << "in none that it is in";
}

TEST_F(Unasked, AboveTheHighMarkTheLeastRecentlyUsedGoDownToTheLowOne) {
  auto& limits = backend_options_["fast"];
  limits.image_volume_cache_max_count = 5;
  options_.high_percent = 80;
  options_.low_percent = 40;
  start();
  const auto a = image('a'), b = image('b'), c = image('c'), d = image('d'), e = image('e');
  for (const auto& id : {a, b, c, d}) ASSERT_TRUE(create_later(id));
  upkeep();
  EXPECT_EQ(kept().size(), 4U) << "4 of 5 are not above 80 percent";
  ASSERT_TRUE(create_later(e));
  ASSERT_TRUE(create_later(a));
  pin(b);
  upkeep();
  EXPECT_EQ(kept(), (std::set{a, b})) << "the last used, and the pinned one";
  EXPECT_EQ(counters_.image_volumes_above_mark, 3U);
  // The room is there before it is wanted: nothing is evicted for the next.
  ASSERT_TRUE(create_later(c));
  EXPECT_EQ(counters_.image_volume_evictions, 3U);
}

TEST_F(Unasked, TheSizeHasMarksToo) {
  backend_options_["fast"].image_volume_cache_max_size_gb = 4;
  options_.high_percent = 70;
  options_.low_percent = 50;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  for (const auto& id : {a, b, c}) ASSERT_TRUE(create_later(id));
  upkeep();
  EXPECT_EQ(kept(), (std::set{b, c}));
}

TEST_F(Unasked, OfAnImageThatIsDeletedItGoesWhenItWasMissedTwice) {
  start();
  const auto a = image('a'), b = image('b');
  for (const auto& id : {a, b}) ASSERT_TRUE(create_later(id));
  poll();
  EXPECT_EQ(kept(), (std::set{a, b}));
  origin_.remove(a);
  poll();
  EXPECT_EQ(kept(), (std::set{a, b})) << "once may be a fault of the origin";
  poll();
  EXPECT_EQ(kept(), std::set{b});
  EXPECT_EQ(counters_.image_volumes_orphaned, 1U);
}

TEST_F(Unasked, ThatAnImageWasSeenIsKnownAfterARestart) {
  start();
  const auto a = image('a'), b = image('b');
  for (const auto& id : {a, b}) ASSERT_TRUE(create_later(id));
  poll();
  origin_.remove(a);
  restart();
  poll();
  poll();
  EXPECT_EQ(kept(), std::set{b});
}

TEST_F(Unasked, WhereMoreImagesAreMissingThanAreThereTheOriginIsNotBelieved) {
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  for (const auto& id : {a, b, c}) ASSERT_TRUE(create_later(id));
  poll();
  origin_.deny("");  // such as a proxy that answers 404 to everything, or an account that has lost its role
  for (int i = 0; i < 4; ++i) poll();
  EXPECT_EQ(kept(), (std::set{a, b, c}));
  origin_.deny("nobody");
  origin_.remove(a);
  poll();
  EXPECT_EQ(kept(), (std::set{a, b, c})) << "what was not believed counts for nothing";
  poll();
  EXPECT_EQ(kept(), (std::set{b, c}));
  origin_.remove(b);
  origin_.remove(c);
  for (int i = 0; i < 3; ++i) poll();
  EXPECT_EQ(kept(), (std::set{b, c})) << "all at once";
}

TEST_F(Unasked, OneMoreThatIsMissingThanIsThereIsEnoughForTheOriginNotToBeBelieved) {
  start();
  const auto a = image('a'), c = image('c');
  const auto b = origin_.add(content('b'));
  for (const auto& id : {a, b.id, c}) ASSERT_TRUE(create_later(id));
  poll();
  origin_.remove(a);
  origin_.remove(b.id);
  for (int i = 0; i < 3; ++i) poll();
  EXPECT_EQ(kept(), (std::set{a, b.id, c}));
  origin_.put(b, content('b'));
  for (int i = 0; i < 2; ++i) poll();
  EXPECT_EQ(kept(), (std::set{b.id, c}));
}

TEST_F(Unasked, WhatIsMissingInARoundThatIsNotBelievedStaysThoughItWasMissedBefore) {
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  for (const auto& id : {a, b, c}) ASSERT_TRUE(create_later(id));
  poll();
  origin_.remove(a);
  poll();
  origin_.deny("");
  poll();
  EXPECT_EQ(kept(), (std::set{a, b, c}));
}

TEST_F(Unasked, AnOriginThatDoesNotAnswerSaysNothingOfItsImages) {
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  for (const auto& id : {a, b, c}) ASSERT_TRUE(create_later(id));
  poll();
  origin_.be_dumb(true);
  for (int i = 0; i < 3; ++i) poll();
  for (const auto& id : {a, b, c}) review(id, true);
  EXPECT_EQ(kept(), (std::set{a, b, c}));
  origin_.be_dumb(false);
  origin_.remove(a);
  poll();
  EXPECT_EQ(kept(), (std::set{a, b, c})) << "missed for the first time";
}

TEST_F(Unasked, OfAnImageThatGlanceShowsAsDeletedItGoesAtOnce) {
  start();
  for (const char* status : {"deleted", "pending_delete"}) {
    auto info = origin_.add(content('a'));
    ASSERT_TRUE(create_later(info.id));
    info.status = status;
    origin_.put(info, content('a'));
    poll();
    EXPECT_TRUE(kept().empty()) << status;
  }
}

TEST_F(Unasked, AStartSaysWhatAnotherStalenessHasMadeAndThePollSaysWhyItGoes) {
  notifier_.is_on = true;
  start();
  const auto a = image('a'), b = image('b');
  for (const auto& id : {a, b}) ASSERT_TRUE(create_later(id));
  const auto said_at_start = [&](bool by_updated_at) {
    options_.stale_by_updated_at = by_updated_at;
    stop();
    ::testing::internal::CaptureStderr();
    start();
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(said_at_start(false), ::testing::Not(::testing::HasSubstr("image_volume_staleness")));
  EXPECT_THAT(said_at_start(true),
              ::testing::HasSubstr("2 image-volumes were made under another image_volume_staleness"));
  poll();
  EXPECT_TRUE(kept().empty());
  const auto events = notifier_.events();
  const auto evict = std::ranges::find(events, "image_volume_cache.evict", &events::Event::event_type);
  ASSERT_NE(evict, events.end());
  EXPECT_THAT(evict->payload, ::testing::HasSubstr("image_volume_staleness was changed"));

  // And back again.
  ASSERT_TRUE(create_later(a));
  EXPECT_THAT(said_at_start(true), ::testing::Not(::testing::HasSubstr("image_volume_staleness")));
  EXPECT_THAT(said_at_start(false), ::testing::HasSubstr("1 image-volumes were made under another"));
}

TEST_F(Unasked, OfAnImageThatIsDeletedItStaysWhileItIsPinnedOrBeingCloned) {
  start();
  const auto a = image('a'), b = image('b'), c = image('c'), d = image('d');
  for (const auto& id : {a, b, c, d}) ASSERT_TRUE(create_later(id));
  pin(a);
  poll();
  driver().hold(Op::clone);
  auto cloning = begin_create(wish(b));
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  origin_.remove(a);
  origin_.remove(b);
  for (int i = 0; i < 3; ++i) poll();
  EXPECT_EQ(kept(), (std::set{a, b, c, d}));
  driver().release(Op::clone);
  EXPECT_TRUE(cloning.get());
  poll();
  EXPECT_EQ(kept(), (std::set{a, c, d})) << "the next round takes what nobody clones any more";
  EXPECT_EQ(counters_.image_volumes_orphaned, 1U);
}

TEST_F(Unasked, AnAccountThatNeverSawTheImageProvesNothing) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  origin_.deny("");  // the service's account has no token here
  for (int i = 0; i < 3; ++i) poll();
  EXPECT_EQ(kept(), std::set{a});
}

TEST_F(Unasked, OfAnImageWithOtherBytesItGoes) {
  start();
  auto first = origin_.add(content('a'));
  ASSERT_TRUE(create_later(first.id));
  auto changed = origin_.add(content('b'));
  changed.id = first.id;
  origin_.put(changed, content('b'));
  poll();
  EXPECT_TRUE(kept().empty());
  EXPECT_EQ(counters_.image_volumes_orphaned, 1U);
}

TEST_F(Unasked, ItStaysAsLongAsOneOfItsImagesIsThere) {
  start();
  const auto a = image('a'), same = image('a');
  for (const auto& id : {a, same}) ASSERT_TRUE(create_later(id));
  restart();  // what the uses are is written
  poll();
  origin_.remove(a);
  poll();
  poll();
  EXPECT_EQ(image_volumes().size(), 1U);
  const auto other = image('o'), another = image('p');
  for (const auto& id : {other, another}) ASSERT_TRUE(create_later(id));
  origin_.remove(same);
  poll();
  poll();
  EXPECT_EQ(kept(), (std::set{other, another}));
}

TEST_F(Unasked, ByUpdatedAtAnEditMakesAnotherAndThePollTakesTheOldOne) {
  options_.stale_by_updated_at = true;
  start();
  auto info = origin_.add(content('a'));
  ASSERT_TRUE(create_later(info.id));
  const auto old = image_volumes().at(0).volume_id;
  info.updated_at = "2026-02-02T00:00:00Z";
  origin_.put(info, content('a'));
  EXPECT_EQ(create_later(info.id)->outcome, Outcome::miss) << "the same bytes, edited";
  EXPECT_EQ(image_volumes().size(), 2U);
  poll();
  ASSERT_EQ(image_volumes().size(), 1U);
  EXPECT_NE(image_volumes()[0].volume_id, old);
  EXPECT_EQ(create_later(info.id)->outcome, Outcome::hit);
}

TEST_F(Unasked, ImagesToBeKeptWarmAreBuiltOnEveryBackendThatKeepsAny) {
  backend_options_["other"].image_volume_cache_enabled = true;
  backend_options_["plain"].image_volume_cache_enabled = false;
  const auto a = image('a'), marked = image('m');
  image('u');  // neither named nor marked
  origin_.mark("golden", {marked});
  options_.warm_images = {a, base::new_uuid()};
  options_.warm_marks = {{.name = "golden", .value = std::nullopt}};
  start();
  warm_ahead();
  EXPECT_EQ(kept(), (std::set{a, marked}));
  EXPECT_EQ(image_volumes().size(), 4U);
  EXPECT_EQ(counters_.image_volumes_warmed, 4U);
  EXPECT_EQ(origin_.streams(), 2U) << "one download for both backends";
  warm_ahead();
  EXPECT_EQ(counters_.image_volumes_warmed, 4U);
  EXPECT_EQ(create_later(marked)->outcome, Outcome::hit);
}

TEST_F(Unasked, WarmingAheadEvictsNothingAndSaysSoByItsAbsence) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  const auto used = image('u'), wanted = image('w');
  options_.warm_images = {wanted};
  start();
  ASSERT_TRUE(create_later(used));
  clock_.advance(std::chrono::hours(48));
  warm_ahead();
  EXPECT_EQ(kept(), std::set{used});
  EXPECT_EQ(origin_.streams(), 1U) << "its bytes were not even fetched";
  ASSERT_TRUE(run(volumes_->evict(image_volumes()[0].volume_id)));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", 0}}));
  warm_ahead();
  EXPECT_TRUE(kept().empty()) << "nor does it pass the quota";
  EXPECT_TRUE(catalog_->list_refusals()->empty()) << "nobody was refused anything";
  EXPECT_EQ(counters_.image_volume_quota_refusals, 0U);
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", -1}}));
  warm_ahead();
  EXPECT_EQ(kept(), std::set{wanted});
}

TEST_F(Unasked, WarmingAheadFillsNoFurtherThanTheMarksLeaveAndNothingGoesRound) {
  backend_options_["fast"].image_volume_cache_max_count = 5;
  options_.high_percent = 80;
  options_.low_percent = 40;
  const auto used = image('u');
  options_.warm_images = {image('a'), image('b'), image('c'), image('d'), image('e')};
  start();
  ASSERT_TRUE(create_later(used));
  for (int i = 0; i < 3; ++i) {
    clock_.advance(seconds(60));
    warm_ahead();
    upkeep();
  }
  EXPECT_EQ(kept().size(), 4U) << "80 percent";
  EXPECT_TRUE(kept().contains(used));
  EXPECT_EQ(counters_.image_volumes_warmed, 3U);
  EXPECT_EQ(counters_.image_volume_evictions, 0U);
}

TEST_F(Unasked, TheBuildLooksAtTheHighMarkAgainWhenItKnowsTheRealSize) {
  backend_options_["fast"].image_volume_cache_max_size_gb = 4;
  options_.high_percent = 50;
  const auto large = origin_.add(empty_qcow2(3 * base::gib), "qcow2").id;
  options_.warm_images = {large};
  start();
  warm_ahead();
  EXPECT_EQ(origin_.streams(), 1U);
  EXPECT_TRUE(kept().empty());
  EXPECT_EQ(create(wish(large, 3))->outcome, Outcome::miss) << "a request may take the whole limit";
}

TEST_F(Unasked, TheTtlSparesWhatIsToBeKeptWarm) {
  options_.ttl = seconds(100);
  const auto a = image('a'), warm = image('w');
  options_.warm_images = {warm};
  start();
  ASSERT_TRUE(create_later(a));
  warm_ahead();
  clock_.advance(seconds(200));
  upkeep();
  EXPECT_EQ(kept(), std::set{warm});
  restart();
  upkeep();
  EXPECT_EQ(kept(), std::set{warm}) << "what is to be kept warm is not known yet";
  warm_ahead();
  clock_.advance(seconds(200));
  upkeep();
  EXPECT_EQ(kept(), std::set{warm});
  EXPECT_EQ(counters_.image_volumes_warmed, 1U) << "it was never made anew";
}

TEST_F(Unasked, TheTtlTakesWhatIsNoLongerToBeKeptWarm) {
  options_.ttl = seconds(100);
  const auto once = image('o');
  origin_.mark("golden", {once});
  options_.warm_marks = {{.name = "golden", .value = std::nullopt}};
  start();
  warm_ahead();
  clock_.advance(seconds(200));
  upkeep();
  EXPECT_EQ(kept(), std::set{once});
  origin_.mark("golden", {});
  warm_ahead();
  upkeep();
  EXPECT_TRUE(kept().empty());
}

TEST_F(Unasked, ASignedImageIsNotKeptWarmWhereSignaturesAreToBeVerified) {
  options_.verify_signatures = true;
  auto info = origin_.add(content('s'));
  info.properties["img_signature"] = "c2lnbmVk";
  origin_.put(info, content('s'));
  const auto plain = image('p');
  options_.warm_images = {info.id, plain};
  start();
  warm_ahead();
  EXPECT_EQ(kept(), std::set{plain});
  EXPECT_EQ(origin_.streams(), 1U);
}

TEST_F(Unasked, WhatNoQuotaHasRoomForIsNotEvenFetched) {
  const auto wanted = image('w');
  options_.warm_images = {wanted};
  start();
  ASSERT_TRUE(catalog_->create_volume_type({.id = base::new_uuid(), .name = "fast-pool"}));
  for (const char* resource : {"volumes", "gigabytes", "volumes_fast-pool", "gigabytes_fast-pool"}) {
    ASSERT_TRUE(catalog_->set_quota(internal_project, {{resource, 0}}));
    warm_ahead();
    EXPECT_EQ(origin_.streams(), 0U) << resource;
    ASSERT_TRUE(catalog_->set_quota(internal_project, {{resource, 1}}));
  }
  warm_ahead();
  EXPECT_EQ(kept(), std::set{wanted}) << "one fits into one";
}

TEST_F(Unasked, WarmingAheadIsForFreeStorageOnly) {
  memory_options_.capacity_bytes = 3 * content('x').size();
  const auto wanted = origin_.add(content('w', 2 * content('x').size())).id;
  options_.warm_images = {wanted};
  start();
  const auto used = image('u'), also = image('v');
  for (const auto& id : {used, also}) ASSERT_TRUE(create_later(id));
  const auto streams = origin_.streams();
  warm_ahead();
  EXPECT_EQ(origin_.streams(), streams) << "its bytes were not even fetched";
  EXPECT_EQ(kept(), (std::set{used, also}));
}

TEST_F(Unasked, AWarmBuildThatFailsIsTriedAgainAfterEverLongerOrWhenTheImageHasChanged) {
  auto info = origin_.add(content('w'));
  options_.warm_images = {info.id};
  options_.warm_interval = seconds(100);
  start();
  driver().fail_call(Op::seal, {Errc::internal, "no"}, 1, 100);
  const auto tries_after = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      warm_ahead();
      clock_.advance(seconds(100));
    }
    return driver().calls(Op::seal);
  };
  EXPECT_EQ(tries_after(2), 1U);
  EXPECT_EQ(tries_after(4), 2U);
  EXPECT_EQ(tries_after(8), 3U);
  EXPECT_EQ(tries_after(1), 4U);
  info.updated_at = "2026-02-02T00:00:00Z";
  origin_.put(info, content('w'));
  EXPECT_EQ(tries_after(2), 5U);
}

TEST_F(Unasked, WhatIsBadAndCannotBeRemovedIsNotCalledWarm) {
  const auto wanted = image('w');
  options_.warm_images = {wanted};
  start();
  ASSERT_TRUE(create_later(wanted));
  driver().fail_call(Op::remove, {Errc::internal, "it is held by another"}, 1, 100);
  ASSERT_FALSE(run(volumes_->evict(image_volumes().at(0).volume_id)));
  const auto job = run(volumes_->start_warm(wanted, "fast", user()));
  ASSERT_TRUE(job);
  ASSERT_TRUE(eventually([&] { return volumes_->job(*job)->state != "running"; }));
  EXPECT_THAT(volumes_->job(*job)->error, ::testing::HasSubstr("it is held by another"));
}

TEST_F(Unasked, WhoJoinsAWarmBuildThatGaveUpForWantOfRoomHasTheVolumeAllTheSame) {
  const auto wanted = image('w');
  options_.warm_images = {wanted};
  start();
  driver().fail_call(Op::copy, {Errc::no_space, "full"});
  driver().hold(Op::remove);
  auto warming = begin_warming();
  ASSERT_TRUE(driver().wait_until_held(Op::remove)) << "it has given up, and is removing what it has made";
  auto asked = begin_create(wish(wanted));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 1; }));
  driver().release(Op::remove);
  EXPECT_TRUE(warming.get());
  const auto created = asked.get();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(kept(), std::set{wanted});
}

TEST_F(Unasked, AStopEndsWhatNobodyWaitsForAtOnce) {
  options_.warm_images = {image('w')};
  start();
  driver().hold(Op::copy);
  auto warming = begin_warming();
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  const auto started = std::chrono::steady_clock::now();
  io_->run(volumes_->stop(base::in(seconds(50))));
  EXPECT_LT(std::chrono::steady_clock::now() - started, seconds(40));
  EXPECT_TRUE(warming.get());
}

TEST_F(Unasked, WhoAsksForAnImageThatIsBeingWarmedHasItsRightToRoom) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  const auto used = image('u');
  // Larger than the origin says, so that the build alone finds out.
  const auto wanted = origin_.add(content('w')).id;
  options_.warm_images = {wanted};
  start();
  origin_.hold(wanted);
  auto warming = begin_warming();
  ASSERT_TRUE(eventually([&] { return origin_.streams() == 1; }));
  ASSERT_TRUE(create_later(used)) << "takes the one place meanwhile";
  auto asked = begin_create(wish(wanted));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 1; }));
  origin_.release(wanted);
  EXPECT_TRUE(warming.get());
  const auto created = asked.get();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::collapsed);
  EXPECT_EQ(kept(), std::set{wanted});
}

TEST_F(Unasked, OnlyWithinTheHoursAndOnlySoMany) {
  const auto hour =
      static_cast<unsigned>(std::chrono::floor<std::chrono::hours>(clock_.now()).time_since_epoch().count() % 24);
  options_.warm_from_hour = (hour + 1) % 24;
  options_.warm_until_hour = (hour + 3) % 24;
  options_.warm_max = 2;
  options_.warm_images = {image('a'), image('b'), image('c')};
  start();
  warm_ahead();
  EXPECT_TRUE(kept().empty());
  clock_.advance(std::chrono::hours(1));
  warm_ahead();
  EXPECT_EQ(kept(), (std::set{options_.warm_images[0], options_.warm_images[1]}));
}

TEST_F(Unasked, ItRunsByItselfAndEndsWithTheService) {
  options_.upkeep_interval = options_.poll_interval = options_.warm_interval = std::chrono::milliseconds(1);
  options_.ttl = seconds(100);
  const auto a = image('a'), warm = image('w');
  options_.warm_images = {warm};
  start();
  ASSERT_TRUE(create_later(a));
  volumes_->start(io_->next());
  EXPECT_TRUE(eventually([&] { return kept().contains(warm); }));
  clock_.advance(seconds(200));
  EXPECT_TRUE(eventually([&] { return counters_.image_volumes_expired >= 1 && !kept().contains(a); }));
  stop();
}

}  // namespace
}  // namespace imagecache::volume_cache
