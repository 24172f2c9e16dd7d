// Room for image-volumes: limits, the internal tenant's quota, pins, evictions by hand.
#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

class Room : public Rig {
 protected:
  /// Ids of the images whose content is kept.
  std::set<std::string> kept() {
    std::set<std::string> images;
    for (const auto& image_volume : image_volumes()) images.insert(image_volume.image_id);
    return images;
  }
  std::string image(char letter) { return origin_.add(content(letter)).id; }
  Result<Created> create_later(const std::string& image_id, std::uint64_t size_gb = 1) {
    clock_.advance(seconds(1));
    return create(wish(image_id, size_gb));
  }
};

TEST_F(Room, TheLeastRecentlyUsedGoesWhenThereAreTooMany) {
  backend_options_["fast"].image_volume_cache_max_count = 2;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(b));
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(c));
  EXPECT_EQ(kept(), (std::set{a, c}));
  EXPECT_EQ(counters_.image_volume_evictions, 1U);
  EXPECT_EQ(on_backend().size(), 4U + 2U);
}

TEST_F(Room, TheOrderOfUseSurvivesARestart) {
  backend_options_["fast"].image_volume_cache_max_count = 2;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(b));
  ASSERT_TRUE(create_later(a));
  restart();
  ASSERT_TRUE(create_later(c));
  EXPECT_EQ(kept(), (std::set{a, c}));
}

TEST_F(Room, AsManyGoAsTheSizeLimitAsksFor) {
  backend_options_["fast"].image_volume_cache_max_size_gb = 3;
  start();
  const auto a = image('a'), b = image('b');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(b));
  const auto big = origin_.add(empty_qcow2(3 * base::gib), "qcow2").id;
  ASSERT_TRUE(create_later(big, 3));
  EXPECT_EQ(kept(), std::set{big});
}

TEST_F(Room, WhatCanNeverFitEvictsNothingAndIsMadeWithout) {
  backend_options_["fast"].image_volume_cache_max_size_gb = 2;
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  const auto created = create_later(origin_.add(empty_qcow2(3 * base::gib), "qcow2").id, 3);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::uncached);
  EXPECT_EQ(kept(), std::set{a});
}

TEST_F(Room, AFullBackendLetsAnIdleOneGoForAClone) {
  start();
  const auto a = image('a'), b = image('b');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(b));
  driver().fail_call(test::FaultDriver::Op::clone, {Errc::no_space, "No space left on device"});
  const auto created = create_later(b);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(kept(), std::set{b}) << "its own source is in use and stays";
}

TEST_F(Room, AFullBackendWithNothingIdleSaysSo) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  driver().fail_call(test::FaultDriver::Op::clone, {Errc::no_space, "No space left on device"});
  const auto refused = create_later(a);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::no_space);
  EXPECT_EQ(kept(), std::set{a});
}

TEST_F(Room, APinnedOneStays) {
  backend_options_["fast"].image_volume_cache_max_count = 2;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(run(volumes_->pin(image_volumes()[0].volume_id, true)));
  ASSERT_TRUE(create_later(b));
  ASSERT_TRUE(create_later(c));
  EXPECT_EQ(kept(), (std::set{a, c}));
}

TEST_F(Room, ARefusalOfTheQuotaCostsTheCacheNotTheUser) {
  start();
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", 0}}));
  const auto created = create_later(image('a'), 2);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::uncached);
  EXPECT_EQ(first_bytes(created->volume.id, 2), "aa");
  EXPECT_EQ(counters_.image_volume_quota_refusals, 1U);
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_NE(created->uncached_reason.find("quota of the internal tenant"), std::string::npos);
  restart();
  const auto refused = catalog_->list_refusals().value();
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].kind, "quota");
  EXPECT_EQ(refused[0].project_id, user_project);
  EXPECT_EQ(refused[0].reason, created->uncached_reason);
}

TEST_F(Room, WhomItHasServedAndWhatThatSparedSurvivesARestart) {
  start();
  const auto a = image('a');
  const auto same = origin_.add(content('a'));
  ASSERT_TRUE(create_later(a));
  auto other = user();
  other.project_id = "55555555555555555555555555555555";
  ASSERT_TRUE(run(volumes_->create(wish(same.id), other, base::in(seconds(30)))));
  ASSERT_TRUE(create_later(a));
  restart();
  ASSERT_EQ(image_volumes().size(), 1U);
  EXPECT_EQ(image_volumes()[0].clones, 3U);
  EXPECT_EQ(image_volumes()[0].used_bytes, 64U * 1024);
  EXPECT_EQ(volumes_->living_clones(image_volumes()[0].volume_id), 3U);
  std::map<std::pair<std::string, std::string>, std::uint64_t> clones;
  for (const auto& use : catalog_->list_image_volume_uses().value()) {
    clones[{use.image_id, use.project_id}] = use.clones;
  }
  EXPECT_EQ(clones, (std::map<std::pair<std::string, std::string>, std::uint64_t>{{{a, user_project}, 2},
                                                                                  {{same.id, other.project_id}, 1}}));
}

TEST_F(Room, TheQuotaIsMadeRoomInWhereThatHelps) {
  start();
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", 2}}));
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(b));
  ASSERT_TRUE(create_later(c));
  EXPECT_EQ(kept(), (std::set{b, c}));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"gigabytes", 4}}));
  const auto big = create_later(origin_.add(empty_qcow2(5 * base::gib), "qcow2").id, 5);
  ASSERT_TRUE(big) << big.error().message;
  EXPECT_EQ(big->outcome, Outcome::uncached);
  EXPECT_EQ(kept(), (std::set{b, c}));
  EXPECT_EQ(catalog_->quota(internal_project)->at("volumes").in_use, 2U);
}

TEST_F(Room, WhatTheQuotaRefusesTakesNoPlace) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  start();
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", 0}}));
  EXPECT_EQ(create_later(image('a'))->outcome, Outcome::uncached);
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", -1}}));
  const auto b = image('b');
  EXPECT_EQ(create_later(b)->outcome, Outcome::miss);
  EXPECT_EQ(kept(), std::set{b});
}

TEST_F(Room, WhatIsLargerThanAnyVolumeMayBeEvictsNothing) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"per_volume_gigabytes", 2}, {"gigabytes", 3}}));
  const auto big = create_later(origin_.add(empty_qcow2(3 * base::gib), "qcow2").id, 3);
  ASSERT_TRUE(big) << big.error().message;
  EXPECT_EQ(big->outcome, Outcome::uncached);
  EXPECT_EQ(kept(), std::set{a});
}

TEST_F(Room, WhatIsAsLargeAsAVolumeMayBeIsMadeRoomFor) {
  start();
  const auto a = image('a'), b = image('b');
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"per_volume_gigabytes", 1}, {"volumes", 1}}));
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(create_later(b));
  EXPECT_EQ(kept(), std::set{b});
}

TEST_F(Room, BeforeOneIsDeletedItsRowsSayThatItIsSoThatNoStartTakesItForWhole) {
  start();
  ASSERT_TRUE(create_later(image('a')));
  driver().hold(Op::remove);
  auto evicting = begin(volumes_->evict(image_volumes().at(0).volume_id));
  ASSERT_TRUE(driver().wait_until_held(Op::remove));
  EXPECT_EQ(image_volumes().at(0).state, "evicting");
  EXPECT_EQ(row(image_volumes().at(0).volume_id)->status, "deleting");
  driver().release(Op::remove);
  EXPECT_TRUE(evicting.get());
}

TEST_F(Room, AnImageVolumeKeepsItsSizeAndType) {
  start();
  ASSERT_TRUE(create_later(image('a')));
  const auto id = image_volumes().at(0).volume_id;
  EXPECT_EQ(run(volumes_->extend(id, 2)).error().code, Errc::conflict);
  const catalog::VolumeType same{
      .id = base::new_uuid(), .name = "same", .extra_specs = {{"volume_backend_name", "fast-pool"}}};
  ASSERT_TRUE(catalog_->create_volume_type(same));
  EXPECT_EQ(run(volumes_->retype(id, same)).error().code, Errc::conflict);
  EXPECT_EQ(row(id)->size_gb, 1U);
  EXPECT_EQ(row(id)->volume_type, "fast-pool");
  EXPECT_EQ(driver().calls(Op::extend), 0U);
}

TEST_F(Room, TheTypesOwnQuotaIsMadeRoomInToo) {
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_TRUE(catalog_->create_volume_type({.id = base::new_uuid(), .name = "fast-pool"}));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes_fast-pool", 1}}));
  ASSERT_TRUE(create_later(a));
  EXPECT_EQ(create_later(b)->outcome, Outcome::miss);
  EXPECT_EQ(kept(), std::set{b});
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes_fast-pool", -1}, {"gigabytes_fast-pool", 1}}));
  EXPECT_EQ(create_later(c)->outcome, Outcome::miss);
  EXPECT_EQ(kept(), std::set{c});
}

/// Two backends, so two types, and image-volumes of both: of the one s0 and s1, which are older, of the other f2 and
/// f3.
class RoomOfTwoTypes : public Room {
 protected:
  RoomOfTwoTypes() { backend_options_["slow"].image_volume_cache_enabled = true; }
  void start_with_four() {
    start();
    for (const char* type : {"fast-pool", "slow-pool"})
      ASSERT_TRUE(catalog_->create_volume_type({.id = base::new_uuid(), .name = type}));
    for (const auto& [id, place] : {std::pair{s0, "slow"}, {s1, "slow"}, {f2, "fast"}, {f3, "fast"}})
      ASSERT_EQ(create_on(place, id).outcome, Outcome::miss);
  }
  void limit(std::map<std::string, std::int64_t> limits) { ASSERT_TRUE(catalog_->set_quota(internal_project, limits)); }
  Created create_on(const std::string& backend, const std::string& image_id, std::uint64_t size_gb = 1) {
    clock_.advance(seconds(1));
    const auto created = create(wish(image_id, size_gb, backend));
    EXPECT_TRUE(created) << created.error().message;
    return created.value_or(Created{});
  }

  std::string large(std::uint64_t size_gb) { return origin_.add(empty_qcow2(size_gb * base::gib), "qcow2").id; }

  const std::string s0 = image('a'), s1 = image('b'), f2 = image('c'), f3 = image('d'), wanted = image('w');
};

TEST_F(RoomOfTwoTypes, ForATypesOwnQuotaOnlyThatTypesGo) {
  start_with_four();
  limit({{"volumes_fast-pool", 2}});
  EXPECT_EQ(create_on("fast", wanted).outcome, Outcome::miss);
  EXPECT_EQ(kept(), (std::set{s0, s1, f3, wanted})) << "the oldest is of the other type and would help nothing";
  limit({{"volumes_fast-pool", -1}, {"gigabytes_fast-pool", 3}});
  const auto of_two = large(2);
  EXPECT_EQ(create_on("fast", of_two, 2).outcome, Outcome::miss);
  EXPECT_EQ(kept(), (std::set{s0, s1, wanted, of_two}));
  EXPECT_EQ(counters_.image_volume_evictions, 2U);
}

TEST_F(RoomOfTwoTypes, ForTheQuotaOfAllTheOldestGoesWhateverItsType) {
  start_with_four();
  limit({{"volumes", 4}, {"volumes_fast-pool", 3}});
  EXPECT_EQ(create_on("fast", wanted).outcome, Outcome::miss);
  EXPECT_EQ(kept(), (std::set{s1, f2, f3, wanted}));
}

TEST_F(RoomOfTwoTypes, ForBothTheTypesGoFirstWhichMayBeEnough) {
  start_with_four();
  limit({{"volumes", 4}, {"volumes_fast-pool", 2}});
  EXPECT_EQ(create_on("fast", wanted).outcome, Outcome::miss);
  EXPECT_EQ(kept(), (std::set{s0, s1, f3, wanted}));
}

TEST_F(RoomOfTwoTypes, ForBothTheOldestOfAnyFollowWhereTheTypesAreNotEnough) {
  start_with_four();
  limit({{"gigabytes", 4}, {"gigabytes_fast-pool", 3}});
  const auto of_two = large(2);
  EXPECT_EQ(create_on("fast", of_two, 2).outcome, Outcome::miss);
  EXPECT_EQ(kept(), (std::set{s1, f3, of_two})) << "f2 for both, and then s0";
}

TEST_F(RoomOfTwoTypes, WhatGoesForTheTypeIsNotTakenAgainForAll) {
  start_with_four();
  for (const auto& id : {s0, s1}) ASSERT_EQ(create_on("slow", id).outcome, Outcome::hit);
  limit({{"gigabytes", 4}, {"gigabytes_fast-pool", 3}});
  const auto of_two = large(2);
  EXPECT_EQ(create_on("fast", of_two, 2).outcome, Outcome::miss);
  EXPECT_EQ(kept(), (std::set{s0, s1, of_two})) << "f2 and f3 are the oldest now";
  EXPECT_EQ(counters_.image_volume_evictions, 2U);
}

TEST_F(RoomOfTwoTypes, WhereOneOfTheLimitsCannotBeMetNothingGoesForTheOther) {
  start_with_four();
  for (const auto& one : image_volumes()) {
    if (one.backend == "slow") ASSERT_TRUE(run(volumes_->pin(one.volume_id, true)));
  }
  limit({{"gigabytes", 4}, {"gigabytes_fast-pool", 3}});
  EXPECT_EQ(create_on("fast", large(3), 3).outcome, Outcome::uncached) << "enough for the type, not for all";
  limit({{"gigabytes_fast-pool", -1}, {"volumes_slow-pool", 2}});
  EXPECT_EQ(create_on("slow", wanted).outcome, Outcome::uncached) << "enough for all, of the type all are pinned";
  EXPECT_EQ(kept(), (std::set{s0, s1, f2, f3}));
  EXPECT_EQ(counters_.image_volume_evictions, 0U);
  EXPECT_EQ(counters_.image_volume_quota_refusals, 2U);
}

TEST_F(Room, AnImageVolumesRowSaysWhereItIsAndWhoseRequestItWasMadeBy) {
  options_.availability_zone = "zone-7";
  start();
  auto asks = user();
  asks.request_id = "req-7";
  ASSERT_TRUE(run(volumes_->create(wish(image('a')), asks, base::in(seconds(30)))));
  const auto made = row(image_volumes().at(0).volume_id);
  EXPECT_EQ(made->availability_zone, "zone-7");
  EXPECT_EQ(made->request_id, "req-7");
}

TEST_F(Room, TwentyCreatesOnTwoBackendsAreOneDownloadAndOneConversionOnEach) {
  backend_options_["slow"].image_volume_cache_enabled = true;
  start();
  const auto a = image('a');
  origin_.hold(a);
  std::vector<std::future<Result<Created>>> creates;
  creates.reserve(20);
  for (int i = 0; i < 20; ++i) creates.push_back(begin_create(wish(a, 1, i % 2 == 0 ? "fast" : "slow")));
  ASSERT_TRUE(eventually([&] { return counters_.volume_misses + counters_.volume_collapsed == 20; }));
  origin_.release(a);
  for (auto& one : creates) {
    const auto created = one.get();
    ASSERT_TRUE(created) << created.error().message;
    EXPECT_EQ(first_bytes(created->volume.id, 2, created->volume.backend), "aa");
  }
  EXPECT_EQ(origin_.streams(), 1U);
  for (const char* name : {"fast", "slow"}) {
    EXPECT_EQ(drivers_.at(name)->calls(Op::copy), 1U) << name;
    EXPECT_EQ(drivers_.at(name)->calls(Op::clone), 10U) << name;
  }
}

TEST_F(Room, ATenantsOwnQuotaIsAnErrorOfItsRequest) {
  quota_ = {{"volumes", 1}};
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  const auto refused = create_later(a);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::quota_exceeded);
  auto by_cinder = wish(a);
  by_cinder.counts_quota = false;
  EXPECT_TRUE(create(by_cinder));
}

TEST_F(Room, AFullBackendMakesRoomOnce) {
  memory_options_.capacity_bytes = 100 * 1024;
  start();
  const auto a = image('a');
  auto first = create_later(a);
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(run(volumes_->remove(first->volume.id)));
  ASSERT_TRUE(eventually([&] { return !row(first->volume.id); }));
  const auto b = image('b');
  const auto second = create_later(b);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(kept(), std::set{b});
}

TEST_F(Room, AnEvictionWaitsForTheClonesInFlight) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  const auto id = image_volumes()[0].volume_id;
  driver().hold(Op::clone);
  auto cloning = begin_create(wish(a));
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  auto evicting = begin(volumes_->evict(id));
  auto next = begin_create(wish(a));
  ASSERT_TRUE(eventually([&] { return counters_.volume_misses == 2; }));
  EXPECT_EQ(driver().calls(Op::remove), 0U);
  driver().release(Op::clone);
  const auto created = cloning.get();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_TRUE(evicting.get());
  EXPECT_TRUE(next.get());
  EXPECT_EQ(first_bytes(created->volume.id, 2), "aa");
  ASSERT_EQ(image_volumes().size(), 1U);
  EXPECT_NE(image_volumes()[0].volume_id, id);
}

TEST_F(Room, OneThatIsBeingBuiltIsNotEvicted) {
  start();
  const auto a = image('a');
  driver().hold(Op::copy);
  auto pending = begin_create(wish(a));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  const auto refused = run(volumes_->evict(image_volumes()[0].volume_id));
  driver().release(Op::copy);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::conflict);
  EXPECT_TRUE(pending.get());
  EXPECT_EQ(run(volumes_->evict(base::new_uuid())).error().code, Errc::not_found);
}

TEST_F(Room, AnEvictionThatFailsIsTriedAgainBeforeTheNextBuild) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  const auto id = image_volumes()[0].volume_id;
  driver().fail_call(Op::remove, {Errc::unavailable, "the storage is away"});
  EXPECT_FALSE(run(volumes_->evict(id)));
  EXPECT_EQ(row(id)->status, "error_deleting");
  const auto created = create_later(a);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::miss);
  EXPECT_FALSE(row(id));
  EXPECT_EQ(image_volumes().size(), 1U);
}

TEST_F(Room, DeletingAnImageVolumeByItsIdEvictsIt) {
  start();
  ASSERT_TRUE(create_later(image('a')));
  const auto id = image_volumes()[0].volume_id;
  ASSERT_TRUE(run(volumes_->remove(id)));
  ASSERT_TRUE(eventually([&] { return !row(id); }));
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_EQ(on_backend().size(), 1U);
}

TEST_F(Room, AWarmIsAHitForWhoComesLater) {
  start();
  const auto a = image('a');
  const auto id = run(volumes_->start_warm(a, "fast", user()));
  ASSERT_TRUE(id) << id.error().message;
  ASSERT_TRUE(eventually([&] { return volumes_->job(*id)->state != "running"; }));
  EXPECT_EQ(volumes_->job(*id)->state, "done") << volumes_->job(*id)->error;
  EXPECT_EQ(volumes_->job(*id)->image_volume_id, image_volumes().at(0).volume_id);
  EXPECT_EQ(create_later(a)->outcome, Outcome::hit);
}

TEST_F(Room, AWarmThatFailsSaysWhy) {
  start();
  const auto a = image('a');
  driver().fail_call(Op::copy, {Errc::internal, "input/output error"});
  const auto id = run(volumes_->start_warm(a, "fast", user()));
  ASSERT_TRUE(id) << id.error().message;
  ASSERT_TRUE(eventually([&] { return volumes_->job(*id)->state == "failed"; }));
  EXPECT_EQ(volumes_->job(*id)->error, "input/output error");
}

}  // namespace
}  // namespace imagecache::volume_cache
