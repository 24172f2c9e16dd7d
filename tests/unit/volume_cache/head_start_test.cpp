// A clone that is made while the origin is still being asked: there when the answer is yes, and never been there when
// not.
#include <SQLiteCpp/SQLiteCpp.h>

#include "unit/volume_cache/rig.hpp"
#include "volume_cache/last_answers.hpp"

namespace imagecache::volume_cache {
namespace {

class HeadStart : public Rig {
 protected:
  /// As the hook asks: the section by name, and quota is Cinder's.
  static CreateRequest hook_wish(const std::string& image_id, std::uint64_t size_gb = 1) {
    CreateRequest request = wish(image_id, size_gb, "fast");
    request.counts_quota = false;
    return request;
  }
  static base::RequestContext member() {
    auto context = user();
    context.auth_token = "member";
    return context;
  }
  std::future<Result<Created>> ask(const CreateRequest& request) {
    return begin(volumes_->create(request, member(), base::in(seconds(30))));
  }

  /// An image with an image-volume and one clone; the next create of it can have a head start.
  void warm_up() {
    notifier_.is_on = true;
    start();
    image_ = origin_.add(content('a'));
    ASSERT_TRUE(ask(hook_wish(image_.id)).get());
    expect_only_the_first();
  }
  /// warm_up(), and the origin has told all that tells the image from another.
  void warm_up_with_checksum() {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    image_.checksum = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    origin_.put(image_, content('a'));
    ASSERT_TRUE(ask(hook_wish(image_.id)).get());
  }
  ImageSeen seen() const {
    return {.updated_at = image_.updated_at, .checksum = image_.checksum, .size_bytes = image_.size_bytes.value()};
  }
  /// Its clone is there, and the origin has not answered.
  void begin_held(const CreateRequest& request) {
    origin_.hold(MemoryOrigin::answers);
    pending_ = ask(request);
    ASSERT_TRUE(eventually([&] { return on_backend().contains("volume-" + request.volume_id); }));
    EXPECT_EQ(counters_.volume_hits, 0U);
    EXPECT_EQ(row(request.volume_id)->status, "creating");
    EXPECT_EQ(row(request.volume_id)->name, "volume-" + request.volume_id) << "what a crash leaves has a name";
  }
  /// Its row is written just after its caller was told.
  void expect_available(const std::string& id) {
    EXPECT_TRUE(eventually([&] { return row(id)->status == "available"; }));
  }
  Result<Created> answered() {
    origin_.release(MemoryOrigin::answers);
    return pending_.get();
  }
  void expect_only_the_first() {
    EXPECT_EQ(on_backend().size(), 2U) << "the image-volume and the first one's clone";
    EXPECT_EQ(counters_.volume_hits, 0U);
    EXPECT_EQ(counters_.volumes_created, 1U);
    EXPECT_EQ(volumes_->living_clones(image_volumes()[0].volume_id), 1U);
    run(volumes_->flush());
    EXPECT_EQ(image_volumes()[0].clones, 1U);
    for (const auto& type : notifier_.types()) EXPECT_NE(type, "image_volume_cache.hit");
  }

  origin::ImageInfo image_;
  std::future<Result<Created>> pending_;
};

TEST_F(HeadStart, IsAHitOnceTheOriginHasSaidYes) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id, 2);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  const auto created = answered();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::hit);
  EXPECT_EQ(driver().calls(Op::clone), 2U);
  EXPECT_EQ(first_bytes(request.volume_id, 3), "aaa");
  expect_available(request.volume_id);
  const auto volume = row(request.volume_id).value();
  EXPECT_EQ(volume.status, "available");
  EXPECT_EQ(volume.source_volume_id, image_volumes()[0].volume_id);
  EXPECT_TRUE(volume.bootable);
  EXPECT_EQ(volume.image_metadata.at("image_id"), image_.id);
  EXPECT_EQ(counters_.volume_hits, 1U);
  EXPECT_TRUE(eventually([&] { return counters_.volumes_created == 2U; }));
  EXPECT_EQ(notifier_.types().back(), "image_volume_cache.hit");
  EXPECT_EQ(volumes_->living_clones(image_volumes()[0].volume_id), 2U);
  run(volumes_->flush());
  EXPECT_EQ(image_volumes()[0].clones, 2U);
}

TEST_F(HeadStart, ItsRowIsWrittenBesideTheCloneAndBeforeItsName) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  const std::string name = "volume-" + request.volume_id;
  driver().hold(Op::clone);
  pending_ = ask(request);
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  EXPECT_TRUE(eventually([&] { return row(request.volume_id).has_value(); })) << "the row waits for no clone";
  {
    // The other way round: nobody else writes while this is there.
    SQLite::Database other((directory_ / "catalog.db").native(), SQLite::OPEN_READWRITE, 5000);
    const auto next = hook_wish(image_.id);
    other.exec("BEGIN IMMEDIATE");
    driver().release(Op::clone);
    auto waits = ask(next);
    ASSERT_TRUE(eventually([&] { return driver().calls(Op::clone) == 3U; }));
    ASSERT_TRUE(eventually([&] { return on_backend().contains(name); })) << "whose row was there";
    EXPECT_FALSE(on_backend().contains("volume-" + next.volume_id));
    other.exec("ROLLBACK");
    EXPECT_TRUE(waits.get());
    EXPECT_TRUE(on_backend().contains("volume-" + next.volume_id));
  }
  EXPECT_TRUE(pending_.get());
}

TEST_F(HeadStart, WhoAskedNeedNotWaitForItsLastWordInTheCatalog) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  SQLite::Database other((directory_ / "catalog.db").native(), SQLite::OPEN_READWRITE, 5000);
  other.exec("BEGIN IMMEDIATE");
  const auto created = answered();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->volume.status, "available");
  EXPECT_EQ(row(request.volume_id)->status, "creating");
  EXPECT_EQ(volumes_->progress(request.volume_id)->phase, Phase::done);
  const auto again = ask(request).get();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->volume.id, request.volume_id);
  EXPECT_EQ(driver().calls(Op::clone), 2U);
  other.exec("ROLLBACK");
  expect_available(request.volume_id);
  EXPECT_TRUE(eventually([&] { return !volumes_->progress(request.volume_id); }));
}

TEST_F(HeadStart, ThatIsRefusedIsNotFoundWholeAfterACrash) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  origin_.deny_download("member");
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  EXPECT_EQ(row(request.volume_id)->source_volume_id, image_volumes()[0].volume_id);
  driver().hold(Op::remove);
  origin_.release(MemoryOrigin::answers);
  ASSERT_TRUE(driver().wait_until_held(Op::remove));
  EXPECT_EQ(row(request.volume_id)->source_volume_id, "");
  driver().release(Op::remove);
  EXPECT_FALSE(pending_.get());
}

TEST_F(HeadStart, ACrashLeavesAVolumeOrNone) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const std::string source = image_volumes()[0].volume_id;
  const auto leave = [&](const std::string& source_volume_id) {
    catalog::Volume left;
    left.id = base::new_uuid();
    left.name = "volume-" + left.id;
    left.project_id = user_project;
    left.backend = "fast";
    left.status = "creating";
    left.size_gb = 1;
    left.image_id = image_.id;
    left.content_key = image_.content_key();
    left.counts_quota = false;
    left.bootable = true;
    left.source_volume_id = source_volume_id;
    EXPECT_TRUE(catalog_->create_volume(left));
    return left.id;
  };
  const auto clone = [&](const std::string& id, std::uint64_t size_gb) {
    EXPECT_TRUE(memory_["fast"]->create_cloned_volume(
        {.source = {"volume-" + source}, .target = {"volume-" + id}, .size_bytes = size_gb * base::gib}));
  };
  const std::string whole = leave(source), grown = leave(source), missing = leave(source), ordinary = leave(""),
                    foreign = leave(source);
  clone(whole, 1);
  ASSERT_TRUE(memory_["fast"]->create_volume({"volume-" + foreign}, base::gib / 2));
  clone(grown, 2);
  clone(ordinary, 1);
  restart();
  EXPECT_EQ(row(whole)->status, "available") << "its caller may have been told";
  EXPECT_EQ(first_bytes(whole, 3), "aaa");
  EXPECT_EQ(row(grown)->status, "available") << "and went on with it";
  EXPECT_EQ(row(missing)->status, "error");
  EXPECT_EQ(row(missing)->source_volume_id, "");
  EXPECT_EQ(row(ordinary)->status, "error") << "of any other way nobody can say how far it was";
  EXPECT_FALSE(on_backend().contains("volume-" + ordinary));
  EXPECT_EQ(row(foreign)->status, "error") << "what is smaller was never a clone of ours";
  EXPECT_EQ(row(foreign)->name, "") << "so nobody deletes it with this row";
  EXPECT_TRUE(on_backend().contains("volume-" + foreign));
  EXPECT_EQ(volumes_->living_clones(source), 3U) << "the first one, and two that were found";

  // Where a clone may be there in part it is not believed; nor deleted, since its caller may have been told.
  const std::string half = leave(source);
  clone(half, 1);
  stop();
  capabilities_ = Capabilities{.clone = CloneSupport::copy_on_write, .max_concurrency = 4};
  start();
  EXPECT_EQ(row(half)->status, "error");
  EXPECT_TRUE(on_backend().contains("volume-" + half));
}

TEST_F(HeadStart, ThatACrashLeftIsNotGivenOutForAnImageThatHasChanged) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  ASSERT_TRUE(ask(request).get());
  expect_available(request.volume_id);
  EXPECT_TRUE(ask(request).get()) << "the same again is the same volume";
  auto changed = origin_.add(content('b'));
  changed.id = image_.id;
  origin_.put(changed, content('b'));
  const auto refused = ask(request).get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::already_exists);
  EXPECT_EQ(first_bytes(request.volume_id, 3), "aaa");
}

TEST_F(HeadStart, WhatIsLeftOfOneIsNoBeginningOfAnother) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  ASSERT_TRUE(ask(request).get());
  expect_available(request.volume_id);
  ASSERT_TRUE(eventually([&] { return !volumes_->progress(request.volume_id); }));
  // As if its removal had been cut short: its row still says that it would be found whole.
  ASSERT_TRUE(catalog_->update_volume(request.volume_id, {.status = "creating", .display_name = "the old row"}));
  const auto created = ask(request).get();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(first_bytes(request.volume_id, 3), "aaa");
  EXPECT_EQ(row(request.volume_id)->display_name, "") << "the row is another";
  expect_available(request.volume_id);
}

TEST_F(HeadStart, WhatTheStorageCannotSayAfterACrashIsKept) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  ASSERT_TRUE(ask(request).get());
  expect_available(request.volume_id);
  ASSERT_TRUE(catalog_->update_volume(request.volume_id, {.status = "creating"}));
  before_recovery_ = [this] { driver().fail_call(Op::extend, {Errc::unavailable, "the storage is away"}); };
  restart();
  EXPECT_EQ(row(request.volume_id)->status, "error");
  EXPECT_EQ(row(request.volume_id)->status_reason, "interrupted by a restart: the storage is away");
  EXPECT_TRUE(on_backend().contains("volume-" + request.volume_id));
}

TEST_F(HeadStart, OfARecordThatTheCallerHasJustReadTheOriginIsAskedForTheRightAlone) {
  ASSERT_NO_FATAL_FAILURE(warm_up_with_checksum());
  const auto describes = counters_.origin_describes.load();
  const auto authorizations = counters_.authorizations_asked.load();
  auto request = hook_wish(image_.id);
  request.image_seen = seen();
  origin_.hold(MemoryOrigin::answers);
  pending_ = ask(request);
  ASSERT_TRUE(eventually([&] { return on_backend().contains("volume-" + request.volume_id); }));
  const auto created = answered();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::hit);
  EXPECT_EQ(row(request.volume_id)->image_metadata.at("image_id"), image_.id);
  EXPECT_EQ(counters_.origin_describes, describes);
  EXPECT_EQ(counters_.authorizations_asked, authorizations + 1);

  // The right is his who asks, whatever he has read.
  origin_.deny_download("member");
  request.volume_id = hook_wish(image_.id).volume_id;
  const auto refused = ask(request).get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_FALSE(row(request.volume_id));
}

TEST_F(HeadStart, OfAnotherRecordThanTheLastThereIsNoneAndTheOriginIsAskedForBoth) {
  ASSERT_NO_FATAL_FAILURE(warm_up_with_checksum());
  std::vector<ImageSeen> others(4, seen());
  others[0].updated_at = "2031-01-01T00:00:00Z";
  others[1].checksum = "00000000000000000000000000000000";
  others[2].checksum.clear();
  others[3].size_bytes += 1;
  for (const ImageSeen& seen : others) {
    const auto describes = counters_.origin_describes.load();
    auto request = hook_wish(image_.id);
    request.image_seen = seen;
    origin_.hold(MemoryOrigin::answers);
    pending_ = ask(request);
    ASSERT_TRUE(eventually([&] { return counters_.origin_describes == describes + 1; }));
    EXPECT_FALSE(on_backend().contains("volume-" + request.volume_id));
    const auto created = answered();
    ASSERT_TRUE(created) << created.error().message;
    EXPECT_EQ(created->outcome, Outcome::hit) << "it is what the origin says, not the caller, that decides";
  }
}

TEST_F(HeadStart, HasNeverBeenWhereTheOriginSaysNo) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  origin_.deny_download("member");
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  const auto refused = answered();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_FALSE(row(request.volume_id));
  expect_only_the_first();
  // Who was refused sets nothing in motion any more, however often he asks.
  ASSERT_FALSE(ask(hook_wish(image_.id)).get());
  EXPECT_EQ(driver().calls(Op::clone), 2U);
  // Nor is anything in the way of the same volume once he may.
  origin_.deny_download("nobody");
  const auto created = ask(request).get();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::hit);
}

TEST_F(HeadStart, HasNeverBeenWhereTheOriginDoesNotAnswer) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  origin_.go_away();
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  const auto failed = answered();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::unavailable);
  EXPECT_FALSE(row(request.volume_id));
  expect_only_the_first();
}

TEST_F(HeadStart, OfAnImageThatHasChangedIsMadeAnewOfWhatItIsNow) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto other = origin_.add(content('b'));
  auto changed = other;
  changed.id = image_.id;
  origin_.put(changed, content('b'));
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  const auto created = answered();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::miss);
  EXPECT_EQ(first_bytes(request.volume_id, 3), "bbb");
  EXPECT_EQ(row(request.volume_id)->content_key, changed.content_key());
  EXPECT_EQ(counters_.volume_hits, 0U);
  EXPECT_EQ(counters_.volumes_created, 2U);
  EXPECT_EQ(on_backend().size(), 4U);
}

TEST_F(HeadStart, ThatCannotBeTakenBackIsRemovedWithItsVolume) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  origin_.deny_download("member");
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  driver().fail_call(Op::remove, {Errc::unavailable, "the storage is away"});
  const auto refused = answered();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_EQ(row(request.volume_id)->status, "error");
  EXPECT_TRUE(on_backend().contains("volume-" + request.volume_id));
  ASSERT_TRUE(run(volumes_->cancel(request.volume_id)));  // as who is refused does
  EXPECT_FALSE(row(request.volume_id));
  expect_only_the_first();
}

TEST_F(HeadStart, ThatFailsCostsNobodyHisVolume) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  driver().fail_call(Op::clone, {Errc::internal, "a clone was lost"}, 1, 1, test::FaultDriver::When::after);
  const auto request = hook_wish(image_.id);
  const auto created = ask(request).get();
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->outcome, Outcome::hit);
  EXPECT_EQ(driver().calls(Op::clone), 3U);
  EXPECT_EQ(counters_.volume_hits, 1U);
  EXPECT_EQ(volumes_->living_clones(image_volumes()[0].volume_id), 2U);
}

TEST_F(HeadStart, LeavesAloneWhatSomebodyElseMadeUnderTheName) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  ASSERT_TRUE(memory_["fast"]->create_volume({"volume-" + request.volume_id}, base::gib));
  const auto created = ask(request).get();
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code, Errc::already_exists);
  EXPECT_TRUE(on_backend().contains("volume-" + request.volume_id));
  EXPECT_EQ(driver().calls(Op::remove), 0U);
}

TEST_F(HeadStart, IsCalledOffWithItsVolume) {
  ASSERT_NO_FATAL_FAILURE(warm_up());
  const auto request = hook_wish(image_.id);
  ASSERT_NO_FATAL_FAILURE(begin_held(request));
  auto cancelled = begin(volumes_->cancel(request.volume_id));
  // It has put up its fence and waits for the create, which waits for the origin.
  ASSERT_TRUE(eventually([&] {
    catalog::Volume probe = *row(request.volume_id);
    return catalog_->create_volume(probe).error().code == Errc::cancelled;
  }));
  // It may have been answered for between the fence and the stop; then it is deleted all the same.
  if (const auto created = answered(); !created) EXPECT_EQ(created.error().code, Errc::cancelled);
  ASSERT_TRUE(cancelled.get());
  EXPECT_FALSE(row(request.volume_id));
  EXPECT_EQ(on_backend().size(), 2U);
  EXPECT_EQ(volumes_->living_clones(image_volumes()[0].volume_id), 1U);
}

TEST_F(HeadStart, IsOnlyForWhatTheHookAsksForAndForClonesThatCostNothing) {
  const auto expect_none = [this](const CreateRequest& request) {
    const unsigned clones = driver().calls(Op::clone);
    origin_.deny_download("member");
    ASSERT_FALSE(ask(request).get());
    EXPECT_EQ(driver().calls(Op::clone), clones);
    origin_.deny_download("nobody");
  };
  ASSERT_NO_FATAL_FAILURE(warm_up());
  expect_none(
      wish(image_.id, 1, "fast"));  // the Block Storage API's: a quota of ours, and a client that waits for a 202
  stop();
  capabilities_ = Capabilities{.clone = CloneSupport::full_copy, .max_concurrency = 4};
  start();
  ASSERT_TRUE(ask(hook_wish(image_.id)).get());
  expect_none(hook_wish(image_.id));
  stop();
  capabilities_.reset();
  options_.head_start_entries = 0;
  start();
  ASSERT_TRUE(ask(hook_wish(image_.id)).get());
  expect_none(hook_wish(image_.id));
}

TEST(LastAnswers, AreForgottenByNumberAndByANo) {
  LastAnswers answers(2);
  origin::ImageInfo image;
  for (const char* id : {"1", "2", "1", "3"}) {
    image.id = id;
    answers.yes("project", image);
  }
  EXPECT_TRUE(answers.find("project", "1"));
  EXPECT_FALSE(answers.find("project", "2")) << "the one that was longest not said";
  EXPECT_TRUE(answers.find("project", "3"));
  EXPECT_FALSE(answers.find("another", "3"));
  answers.no("another", "3");
  EXPECT_TRUE(answers.find("project", "3"));
  answers.no("project", "3");
  EXPECT_FALSE(answers.find("project", "3"));
}

}  // namespace
}  // namespace imagecache::volume_cache
