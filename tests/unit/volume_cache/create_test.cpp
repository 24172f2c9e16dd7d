#include <fmt/format.h>

#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

class CreateVolume : public Rig {};

TEST_F(CreateVolume, ColdThenWarmAreClonesOfOneImageVolume) {
  start();
  const auto image = origin_.add(content('a'));
  const auto cold = create(wish(image.id, 2));
  ASSERT_TRUE(cold) << cold.error().message;
  const auto warm = create(wish(image.id, 3));
  ASSERT_TRUE(warm) << warm.error().message;
  EXPECT_EQ(cold->outcome, Outcome::miss);
  EXPECT_EQ(warm->outcome, Outcome::hit);
  EXPECT_EQ(counters_.volume_builds_completed, 1U);
  EXPECT_EQ(origin_.streams(), 1U);

  const auto kept = image_volumes();
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0].state, "ready");
  EXPECT_EQ(kept[0].requesting_project, user_project);
  const auto kept_row = row(kept[0].volume_id).value();
  EXPECT_EQ(kept_row.project_id, internal_project);
  EXPECT_EQ(kept_row.display_name, "image-" + image.id);
  EXPECT_EQ(kept_row.metadata.at("readonly"), "True");
  EXPECT_EQ(kept_row.status, "available");
  EXPECT_EQ(kept_row.size_gb, 1U);

  const auto volume = row(warm->volume.id).value();
  EXPECT_EQ(volume.status, "available");
  EXPECT_EQ(volume.source_volume_id, kept[0].volume_id);
  EXPECT_EQ(volume.host, "host@fast#fast-pool");
  EXPECT_TRUE(volume.bootable);
  EXPECT_EQ(volume.image_metadata.at("image_id"), image.id);
  EXPECT_EQ(first_bytes(warm->volume.id, 3), "aaa");
  EXPECT_EQ(on_backend().size(), 3U);
}

TEST_F(CreateVolume, TwentyAtOnceCauseOneBuild) {
  start();
  const auto image = origin_.add(content('a'));
  driver().hold(Op::copy);
  std::vector<std::future<Result<Created>>> creates;
  for (int i = 0; i < 20; ++i) creates.push_back(begin_create(wish(image.id)));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 19; }));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  driver().release(Op::copy);
  for (auto& pending : creates) {
    const auto created = pending.get();
    ASSERT_TRUE(created) << created.error().message;
  }
  EXPECT_EQ(counters_.volume_builds_started, 1U);
  EXPECT_EQ(driver().calls(Op::copy), 1U);
  EXPECT_EQ(driver().calls(Op::clone), 20U);
  EXPECT_EQ(origin_.streams(), 1U);
}

TEST_F(CreateVolume, WhoMayNotDownloadTheImageGetsNoWarmCloneOfItEither) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  origin_.deny_download("reader");
  auto reader = user();
  reader.auth_token = "reader";
  const auto request = wish(image.id);
  const auto refused = run(volumes_->create(request, reader, base::in(seconds(30))));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_FALSE(row(request.volume_id));
  EXPECT_EQ(on_backend().size(), 2U) << "the image-volume and the first one's clone";
}

TEST_F(CreateVolume, AnotherImageIsNotHeldUpByABuild) {
  start();
  const auto slow = origin_.add(content('s'));
  const auto quick = origin_.add(content('q'));
  origin_.hold(slow.id);
  auto waiting = begin_create(wish(slow.id));
  ASSERT_TRUE(eventually([&] { return origin_.streams() == 1; }));
  const auto created = create(wish(quick.id));
  EXPECT_TRUE(created) << created.error().message;
  EXPECT_EQ(counters_.volume_builds_started, 2U);
  origin_.release(slow.id);
  EXPECT_TRUE(waiting.get());
}

TEST_F(CreateVolume, ImagesWithTheSameBytesShareAnImageVolume) {
  start();
  ASSERT_TRUE(create(wish(origin_.add(content('a')).id)));
  const auto second = create(wish(origin_.add(content('a')).id));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->outcome, Outcome::hit);
  EXPECT_EQ(image_volumes().size(), 1U);
}

TEST_F(CreateVolume, BytesThatAreClaimedToBeSomethingElseAreJudgedAnew) {
  start();
  const std::string bytes = empty_qcow2(base::gib);
  ASSERT_TRUE(create(wish(origin_.add(bytes, "qcow2").id)));
  const auto lying = create(wish(origin_.add(bytes, "raw").id));
  ASSERT_FALSE(lying);
  EXPECT_EQ(lying.error().code, Errc::unacceptable_image);
  EXPECT_EQ(image_volumes().size(), 1U);
}

TEST_F(CreateVolume, NewContentOfAnImageIsANewImageVolume) {
  start();
  auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  auto changed = origin_.add(content('b'));
  changed.id = image.id;
  origin_.put(changed, content('b'));
  const auto created = create(wish(image.id));
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::miss);
  EXPECT_EQ(first_bytes(created->volume.id, 2), "bb");
  EXPECT_EQ(image_volumes().size(), 2U);
}

TEST_F(CreateVolume, TheSameIdTwiceAtOnceIsOneVolume) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  driver().hold(Op::clone);
  const auto request = wish(image.id);
  auto first = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  auto second = begin_create(request);
  auto other = request;
  other.size_gb = 2;
  const auto refused = create(other);
  driver().release(Op::clone);
  ASSERT_TRUE(first.get());
  ASSERT_TRUE(second.get());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::already_exists);
  EXPECT_EQ(driver().calls(Op::clone), 2U);
}

TEST_F(CreateVolume, AskedAgainWhenFinishedItIsGivenAsItIs) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  ASSERT_TRUE(create(request));
  const auto again = create(request);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->volume.status, "available");
  EXPECT_EQ(driver().calls(Op::clone), 1U);
  auto other = request;
  other.size_gb = 5;
  const auto refused = create(other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::already_exists);
}

TEST_F(CreateVolume, BegunOnlyItWaitsForWhoeverGoesOn) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  const auto begun = run(volumes_->begin_create(request, user()));
  ASSERT_TRUE(begun) << begun.error().message;
  EXPECT_EQ(begun->status, "creating");
  EXPECT_EQ(row(request.volume_id)->status, "creating");
  EXPECT_TRUE(on_backend().empty());
  const auto created = create(request);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(row(request.volume_id)->status, "available");
}

TEST_F(CreateVolume, AFailedOneLeavesNothingAndStartsCleanWhenAskedAgain) {
  start();
  const auto image = origin_.add(content('a'));
  const auto request = wish(image.id);
  driver().fail_call(Op::clone, {Errc::unavailable, "the storage is away"});
  const auto failed = create(request);
  ASSERT_FALSE(failed);
  EXPECT_EQ(row(request.volume_id)->status, "error");
  EXPECT_EQ(row(request.volume_id)->status_reason, "the storage is away");
  EXPECT_EQ(on_backend().size(), 1U);
  const auto created = create(request);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(row(request.volume_id)->status, "available");
  EXPECT_EQ(created->outcome, Outcome::hit);
}

TEST_F(CreateVolume, AnAnswerThatWasLostLeavesNothingEither) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  driver().fail_call(Op::clone, {Errc::timeout, "no answer"}, 1, 1, test::FaultDriver::When::after);
  ASSERT_FALSE(create(request));
  EXPECT_FALSE(on_backend().contains("volume-" + request.volume_id));
}

TEST_F(CreateVolume, WhatSomebodyElseMadeUnderTheNameStaysThere) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  const std::string name = "volume-" + request.volume_id;
  ASSERT_TRUE(memory_["fast"]->create_volume({name}, base::gib));
  const auto refused = create(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::already_exists);
  EXPECT_TRUE(on_backend().contains(name));
  ASSERT_TRUE(run(volumes_->remove(request.volume_id)));
  ASSERT_TRUE(eventually([&] { return !row(request.volume_id); }));
  EXPECT_TRUE(on_backend().contains(name));
}

TEST_F(CreateVolume, SmallerThanItsDiskIsRefusedAndNothingIsBuilt) {
  start();
  const auto image = origin_.add(empty_qcow2(3 * base::gib), "qcow2");
  const auto request = wish(image.id, 1);
  const auto refused = create(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unacceptable_image);
  EXPECT_NE(row(request.volume_id)->status_reason.find("doesn't fit"), std::string::npos);
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_TRUE(on_backend().empty());

  ASSERT_TRUE(create(wish(image.id, 3)));
  const auto warm = create(wish(image.id, 2));
  ASSERT_FALSE(warm);
  EXPECT_EQ(warm.error().code, Errc::unacceptable_image);
}

TEST_F(CreateVolume, WhatTheImageClaimsIsCheckedBeforeARowIsWritten) {
  start();
  auto image = origin_.add(content('a'));
  image.min_disk_gb = 5;
  origin_.put(image, content('a'));
  const auto request = wish(image.id, 4);
  auto refused = create(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "Volume size 4GB cannot be smaller than the image minDisk size 5GB.");
  image.status = "queued";
  origin_.put(image, content('a'));
  refused = create(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, fmt::format("Image {} is not active.", image.id));
  refused = create(wish(base::new_uuid()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  EXPECT_FALSE(row(request.volume_id));
}

TEST_F(CreateVolume, OfAnEncryptedTypeNothingIsMadeOrClonedHere) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  const std::string type = base::new_uuid();
  ASSERT_TRUE(catalog_->create_volume_type({.id = type, .name = "secret", .extra_specs = {}, .encryption = {}}));
  ASSERT_TRUE(catalog_->set_type_encryption(type, {{"provider", "luks"}, {"control_location", "front-end"}}));
  auto typed = wish(image.id), told = wish(image.id);
  typed.volume_type = "secret";
  told.encrypted = true;
  for (const auto& request : {typed, told}) {
    const auto refused = create(request);
    ASSERT_FALSE(refused) << "a clone of an image-volume that is there";
    EXPECT_EQ(refused.error().code, Errc::unsupported);
    EXPECT_NE(refused.error().message.find("encrypted"), std::string::npos);
    EXPECT_FALSE(row(request.volume_id));
  }
  EXPECT_EQ(driver().calls(Op::clone), 1U);
  ASSERT_TRUE(catalog_->set_type_encryption(type, {}));
  EXPECT_TRUE(create(typed));
}

TEST_F(CreateVolume, OfASignedImageNothingIsMadeWhereSignaturesAreToBeVerified) {
  start();
  auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  image.properties["img_signature_hash_method"] = "SHA-256";
  origin_.put(image, content('a'));
  const auto request = wish(image.id);
  const auto refused = create(request);
  ASSERT_FALSE(refused) << "not by a hit either, which nobody would verify";
  EXPECT_EQ(refused.error().code, Errc::unsupported);
  EXPECT_NE(refused.error().message.find("verify_glance_signatures"), std::string::npos);
  EXPECT_FALSE(row(request.volume_id));
  EXPECT_EQ(run(volumes_->start_warm(image.id, "fast", user())).error().code, Errc::unsupported);
  stop();
  options_.verify_signatures = false;
  start();
  const auto made = create(request);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->outcome, Outcome::hit);
}

TEST_F(CreateVolume, WithoutAnImageItIsEmpty) {
  start();
  const auto created = create(wish("", 2));
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::empty);
  EXPECT_FALSE(row(created->volume.id)->bootable);
  EXPECT_TRUE(image_volumes().empty());
}

TEST_F(CreateVolume, ABackendThatKeepsNoImageVolumesGetsTheImageItself) {
  backend_options_["plain"].image_volume_cache_enabled = false;
  start();
  const auto image = origin_.add(content('a'));
  const auto created = create(wish(image.id, 2, "plain"));
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::uncached);
  EXPECT_EQ(created->volume.source_volume_id, "");
  EXPECT_EQ(first_bytes(created->volume.id, 2, "plain"), "aa");
  EXPECT_EQ(on_backend("plain").size(), 1U);
  EXPECT_TRUE(image_volumes().empty());
}

TEST_F(CreateVolume, TheTypeNamesTheBackend) {
  backend_options_["slow"].image_volume_cache_enabled = true;
  start();
  const auto image = origin_.add(content('a'));
  auto request = wish(image.id);
  request.volume_type = "slow-pool";
  auto created = create(request);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->volume.backend, "slow");
  ASSERT_TRUE(catalog_->create_volume_type(
      {.id = base::new_uuid(), .name = "gold", .extra_specs = {{"volume_backend_name", "fast-pool"}}}));
  request = wish(image.id);
  request.volume_type = "gold";
  created = create(request);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->volume.backend, "fast");
  EXPECT_EQ(created->volume.volume_type, "gold");
  request = wish(image.id);
  request.volume_type = "lead";
  created = create(request);
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code, Errc::not_found);
}

TEST_F(CreateVolume, WhoeverLeavesEarlyDoesNotStopIt) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  driver().hold(Op::copy);
  auto impatient = begin(volumes_->create(request, user(), base::in(std::chrono::milliseconds(1))));
  const auto left = impatient.get();
  ASSERT_FALSE(left);
  EXPECT_EQ(left.error().code, Errc::timeout);
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  EXPECT_EQ(volumes_->progress(request.volume_id)->phase, Phase::convert);
  driver().release(Op::copy);
  const auto created = create(request);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(driver().calls(Op::copy), 1U);
}

TEST_F(CreateVolume, MoreAtOnceThanTheLimitAreToldToComeBack) {
  options_.max_creates = 1;
  start();
  const auto image = origin_.add(content('a'));
  driver().hold(Op::copy);
  auto first = begin_create(wish(image.id));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  const auto second = create(wish(image.id));
  driver().release(Op::copy);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  EXPECT_TRUE(first.get());
}

TEST_F(CreateVolume, ABadImageVolumeIsMadeAnewOnce) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  ASSERT_TRUE(memory_["fast"]->delete_volume({row(image_volumes()[0].volume_id)->name}));
  const auto created = create(wish(image.id));
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(first_bytes(created->volume.id, 2), "aa");
  EXPECT_EQ(counters_.image_volume_repairs, 1U);
  EXPECT_EQ(counters_.volume_builds_completed, 2U);
  EXPECT_EQ(image_volumes().size(), 1U);
}

TEST_F(CreateVolume, WhatCannotBeRepairedIsNotRepairedForEver) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  driver().fail_call(Op::clone, {Errc::not_found, "the source is gone"}, 1, 4);
  EXPECT_FALSE(create(wish(image.id)));
  EXPECT_FALSE(create(wish(image.id)));
  EXPECT_FALSE(create(wish(image.id)));
  EXPECT_EQ(counters_.image_volume_repairs, 1U);
  EXPECT_EQ(counters_.volume_builds_completed, 2U);
  EXPECT_TRUE(create(wish(image.id)));
}

TEST_F(CreateVolume, AFaultOfTheTargetIsNoReasonToThrowTheSourceAway) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  driver().fail_call(Op::clone, {Errc::internal, "input/output error"});
  EXPECT_FALSE(create(wish(image.id)));
  EXPECT_EQ(counters_.image_volume_repairs, 0U);
  EXPECT_EQ(counters_.volume_builds_completed, 1U);
}

TEST_F(CreateVolume, AFailedBuildLeavesNothingAndTheNextSucceeds) {
  start();
  const auto image = origin_.add(content('a'));
  driver().fail_call(Op::copy, {Errc::internal, "input/output error"});
  EXPECT_FALSE(create(wish(image.id)));
  EXPECT_TRUE(on_backend().empty());
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_EQ(catalog_->quota(internal_project)->at("volumes").in_use, 0U);
  EXPECT_TRUE(create(wish(image.id)));
}

TEST_F(CreateVolume, AnImageVolumeWithAsManyLivingClonesAsAllowedIsReplaced) {
  capabilities_ = Capabilities{.clone = CloneSupport::copy_on_write, .max_concurrency = 8, .clones_per_source = 2};
  start();
  const auto image = origin_.add(content('a'));
  const auto first = create(wish(image.id)), second = create(wish(image.id));
  ASSERT_TRUE(first && second);
  // A clone that is gone makes room for another, as often as it happens.
  ASSERT_TRUE(run(volumes_->remove(first->volume.id)));
  ASSERT_TRUE(eventually([&] { return !row(first->volume.id); }));
  const auto third = create(wish(image.id));
  ASSERT_TRUE(third);
  EXPECT_EQ(third->outcome, Outcome::hit);
  restart();
  ASSERT_TRUE(run(volumes_->cancel(second->volume.id, second->volume.name))) << "Cinder has deleted it";
  EXPECT_EQ(create(wish(image.id))->outcome, Outcome::hit);
  EXPECT_EQ(counters_.volume_builds_completed, 1U);
  EXPECT_EQ(create(wish(image.id))->outcome, Outcome::miss) << "two live";
  EXPECT_EQ(counters_.volume_builds_completed, 2U);
  EXPECT_EQ(image_volumes().size(), 1U);
}

TEST_F(CreateVolume, ManyWhoWaitForOneBuildDoNotPassTheLimitOfClonesEither) {
  capabilities_ = Capabilities{.clone = CloneSupport::copy_on_write, .max_concurrency = 8, .clones_per_source = 2};
  start();
  const auto image = origin_.add(content('a'));
  driver().hold(Op::copy);
  std::vector<std::future<Result<Created>>> creates;
  for (int i = 0; i < 7; ++i) creates.push_back(begin_create(wish(image.id)));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 6; }));
  driver().release(Op::copy);
  std::map<std::string, int> by_source;
  for (auto& pending : creates) {
    const auto created = pending.get();
    ASSERT_TRUE(created) << created.error().message;
    EXPECT_EQ(first_bytes(created->volume.id, 2), "aa");
    if (!created->volume.source_volume_id.empty()) ++by_source[created->volume.source_volume_id];
  }
  for (const auto& [source, clones] : by_source) EXPECT_LE(clones, 2) << source;
  EXPECT_GE(by_source.size(), 2U);
}

TEST_F(CreateVolume, AStopWaitsForWhatIsInFlight) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  driver().hold(Op::clone);
  auto pending = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  auto stopping = begin([](VolumeCache* cache) -> base::Task<bool> {
    co_await cache->stop(base::in(seconds(20)));
    co_return true;
  }(volumes_.get()));
  const auto is_closed = [&] { return run(volumes_->pin("nothing", true)).error().code == Errc::unavailable; };
  ASSERT_TRUE(eventually(is_closed));
  driver().release(Op::clone);
  EXPECT_TRUE(stopping.get());
  EXPECT_TRUE(pending.get());
  EXPECT_EQ(row(request.volume_id)->status, "available");
  EXPECT_EQ(image_volumes()[0].clones, 1U);
}

TEST_F(CreateVolume, AStopThatRunsOutOfPatienceCallsItOff) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  driver().hold(Op::copy);
  auto pending = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  auto stopping = begin([](VolumeCache* cache) -> base::Task<bool> {
    co_await cache->stop(base::in(std::chrono::milliseconds(1)));
    co_return true;
  }(volumes_.get()));
  EXPECT_TRUE(stopping.get());
  EXPECT_FALSE(pending.get());
  EXPECT_EQ(row(request.volume_id)->status, "error");
  EXPECT_TRUE(on_backend().empty());
}

}  // namespace
}  // namespace imagecache::volume_cache
