// Remove, cancel, extend; and what a start settles.
#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

class ManageVolume : public Rig {};

TEST_F(ManageVolume, ARemovedOneIsGoneAndItsQuotaWithIt) {
  start();
  const auto created = create(wish(origin_.add(content('a')).id, 2));
  ASSERT_TRUE(created);
  EXPECT_EQ(catalog_->quota(user_project)->at("gigabytes").in_use, 2U);
  ASSERT_TRUE(run(volumes_->remove(created->volume.id)));
  ASSERT_TRUE(eventually([&] { return !row(created->volume.id); }));
  EXPECT_FALSE(on_backend().contains(created->volume.name));
  EXPECT_EQ(catalog_->quota(user_project)->at("gigabytes").in_use, 0U);
  EXPECT_EQ(run(volumes_->remove(created->volume.id)).error().code, Errc::not_found);
}

TEST_F(ManageVolume, OneThatIsBeingCreatedCannotBeRemoved) {
  start();
  const auto request = wish(origin_.add(content('a')).id);
  driver().hold(Op::copy);
  auto pending = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  const auto refused = run(volumes_->remove(request.volume_id));
  driver().release(Op::copy);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::conflict);
  EXPECT_TRUE(pending.get());
}

TEST_F(ManageVolume, ARemovalThatFailsSaysWhyAndCanBeTriedAgain) {
  start();
  const auto created = create(wish("", 1));
  driver().fail_call(Op::remove, {Errc::unavailable, "the storage is away"});
  ASSERT_TRUE(run(volumes_->remove(created->volume.id)));
  ASSERT_TRUE(eventually([&] { return row(created->volume.id)->status == "error_deleting"; }));
  EXPECT_EQ(row(created->volume.id)->status_reason, "the storage is away");
  ASSERT_TRUE(run(volumes_->remove(created->volume.id)));
  EXPECT_TRUE(eventually([&] { return !row(created->volume.id); }));
}

TEST_F(ManageVolume, ExtendGrowsVolumeRowAndQuota) {
  quota_ = {{"gigabytes", 5}};
  start();
  const auto id = create(wish("", 1))->volume.id;
  ASSERT_TRUE(run(volumes_->extend(id, 4)));
  EXPECT_EQ(row(id)->size_gb, 4U);
  EXPECT_EQ(row(id)->status, "available");
  EXPECT_EQ(run(volumes_->extend(id, 4)).error().code, Errc::invalid_argument);
  EXPECT_EQ(run(volumes_->extend(id, 6)).error().code, Errc::quota_exceeded);
  EXPECT_EQ(row(id)->status, "available");
  driver().fail_call(Op::extend, {Errc::unavailable, "the storage is away"});
  EXPECT_FALSE(run(volumes_->extend(id, 5)));
  EXPECT_EQ(row(id)->status, "error_extending");
  EXPECT_EQ(row(id)->size_gb, 4U);
  EXPECT_EQ(catalog_->quota(user_project)->at("gigabytes").in_use, 4U);
}

TEST_F(ManageVolume, ACancelledCreateNeverAppearsLate) {
  backend_options_["plain"].image_volume_cache_enabled = false;
  start();
  const auto request = wish(origin_.add(content('a')).id, 1, "plain");
  driver("plain").hold(Op::copy);
  auto pending = begin_create(request);
  ASSERT_TRUE(driver("plain").wait_until_held(Op::copy));
  const auto cancelled = run(volumes_->cancel(request.volume_id));
  ASSERT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_TRUE(on_backend("plain").empty());
  EXPECT_FALSE(row(request.volume_id));
  EXPECT_FALSE(pending.get());
  driver("plain").release(Op::copy);

  auto late = create(request);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::cancelled);
  restart();
  late = create(request);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::cancelled);
  EXPECT_TRUE(on_backend("plain").empty());
  clock_.advance(std::chrono::hours(25));
  restart();
  EXPECT_TRUE(create(request));
}

TEST_F(ManageVolume, ACancelWaitsForTheCallThatIsInFlight) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  const auto request = wish(image.id), other = wish("", 1);
  driver().hold(Op::clone);
  auto pending = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::clone));
  auto cancelling = begin(volumes_->cancel(request.volume_id));
  // Meanwhile it would have come as far as to delete what the clone is still writing.
  ASSERT_TRUE(create(other));
  EXPECT_TRUE(run(volumes_->cancel(other.volume_id)));
  EXPECT_EQ(driver().calls(Op::remove), 1U);
  driver().release(Op::clone);
  const auto cancelled = cancelling.get();
  EXPECT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_FALSE(pending.get());
  EXPECT_FALSE(row(request.volume_id));
  EXPECT_FALSE(on_backend().contains("volume-" + request.volume_id));
}

TEST_F(ManageVolume, CancellingOneThatWaitsForABuildLeavesTheBuildToOthers) {
  start();
  const auto image = origin_.add(content('a'));
  const auto request = wish(image.id);
  driver().hold(Op::copy);
  auto pending = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  auto other = begin_create(wish(image.id));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 1; }));
  ASSERT_TRUE(run(volumes_->cancel(request.volume_id)));
  const auto cancelled = pending.get();
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, Errc::cancelled);
  driver().release(Op::copy);
  EXPECT_TRUE(other.get());
  EXPECT_FALSE(on_backend().contains("volume-" + request.volume_id));
  EXPECT_EQ(driver().calls(Op::copy), 1U);
}

TEST_F(ManageVolume, WhatIsForgottenKeepsItsStorageAlsoWhereTheServiceEndsInTheMiddle) {
  notifier_.is_on = true;
  start();
  const auto moved = create(wish("", 1))->volume, ours = create(wish("", 1))->volume;
  std::map<std::string, std::string> status_then;
  notifier_.look = [&](const events::Event& event) {
    if (event.event_type != "volume.delete.start") return;
    for (const auto& one : {moved, ours}) {
      if (const auto now = row(one.id)) status_then[one.id] = now->status;
    }
  };
  ASSERT_TRUE(run(volumes_->cancel(moved.id, moved.name)));
  EXPECT_EQ(status_then[moved.id], "available") << "a start deletes what says `deleting`";
  EXPECT_FALSE(row(moved.id));
  EXPECT_TRUE(on_backend().contains(moved.name));
  ASSERT_TRUE(run(volumes_->cancel(ours.id, "volume-" + base::new_uuid())));
  EXPECT_EQ(status_then[ours.id], "deleting");
  EXPECT_EQ(on_backend(), std::set{moved.name});
}

TEST_F(ManageVolume, AnAttachedOneIsNotRemovedWhateverItsStatusSays) {
  start();
  const auto made = create(wish("", 1))->volume;
  ASSERT_TRUE(catalog_->update_volume(made.id, {.attach = catalog::Attachment{.id = "a"}}));
  for (const char* status : {"available", "error", "in-use"}) {
    ASSERT_TRUE(catalog_->update_volume(made.id, {.status = status}));
    EXPECT_EQ(run(volumes_->remove(made.id)).error().code, Errc::conflict) << status;
    EXPECT_EQ(row(made.id)->status, status);
  }
  EXPECT_TRUE(on_backend().contains(made.name));
}

TEST_F(ManageVolume, OnlyWhatIsAtRestIsRemoved) {
  start();
  const auto made = create(wish("", 1))->volume;
  for (const char* status : {"creating", "downloading", "extending", "uploading", "attaching", "in-use", "deleting"}) {
    ASSERT_TRUE(catalog_->update_volume(made.id, {.status = status}));
    EXPECT_EQ(run(volumes_->remove(made.id)).error().code, Errc::conflict) << status;
    EXPECT_EQ(row(made.id)->status, status);
  }
  EXPECT_EQ(driver().calls(Op::remove), 0U);
}

TEST_F(ManageVolume, CancellingWhatIsFinishedOrUnknownIsFine) {
  start();
  const auto created = create(wish("", 1));
  ASSERT_TRUE(run(volumes_->cancel(created->volume.id)));
  EXPECT_FALSE(row(created->volume.id));
  EXPECT_TRUE(on_backend().empty());
  EXPECT_TRUE(run(volumes_->cancel(created->volume.id)));
  const auto request = wish("", 1);
  EXPECT_TRUE(run(volumes_->cancel(request.volume_id)));
  EXPECT_EQ(create(request).error().code, Errc::cancelled);
}

class Recover : public Rig {
 protected:
  catalog::Volume unfinished(const std::string& status) {
    catalog::Volume volume;
    volume.id = base::new_uuid();
    volume.name = "volume-" + volume.id;
    volume.project_id = user_project;
    volume.backend = "fast";
    volume.volume_type = "fast-pool";
    volume.status = status;
    volume.size_gb = 2;
    EXPECT_TRUE(catalog_->create_volume(volume));
    EXPECT_TRUE(memory_["fast"]->create_volume({volume.name}, base::gib));
    return volume;
  }
};

TEST_F(Recover, EachUnfinishedVolumeIsSettled) {
  start();
  const auto creating = unfinished("creating"), downloading = unfinished("downloading"),
             deleting = unfinished("deleting"), extending = unfinished("extending");
  restart();
  EXPECT_EQ(row(creating.id)->status, "error");
  EXPECT_EQ(row(creating.id)->status_reason, "interrupted by a restart; create it again");
  EXPECT_EQ(row(downloading.id)->status, "error");
  EXPECT_FALSE(row(deleting.id));
  EXPECT_EQ(row(extending.id)->status, "available");
  EXPECT_EQ(on_backend(), std::set{extending.name});
}

TEST_F(Recover, WhatCannotBeRemovedNowIsToldAndRemovedLater) {
  start();
  const auto creating = unfinished("creating");
  auto other = creating;
  other.id = base::new_uuid();
  other.name = "volume-" + other.id;
  other.backend = "gone";
  ASSERT_TRUE(catalog_->create_volume(other));
  restart();
  EXPECT_EQ(row(other.id)->status, "error");
  EXPECT_NE(row(other.id)->status_reason.find("not enabled"), std::string::npos);
}

TEST_F(Recover, HalfBuiltImageVolumesGoAndLostOnesAreForgotten) {
  start();
  const auto a = origin_.add(content('a')), b = origin_.add(content('b')), c = origin_.add(content('c'));
  for (const auto& image : {a, b, c}) ASSERT_TRUE(create(wish(image.id)));
  for (const auto& kept : image_volumes()) {
    if (kept.image_id == a.id) ASSERT_TRUE(catalog_->update_image_volume(kept.volume_id, {.state = "building"}));
    if (kept.image_id == b.id) ASSERT_TRUE(memory_["fast"]->delete_volume({row(kept.volume_id)->name}));
  }
  restart();
  ASSERT_EQ(image_volumes().size(), 1U);
  EXPECT_EQ(image_volumes()[0].image_id, c.id);
  EXPECT_EQ(on_backend().size(), 3U + 1U);
  EXPECT_EQ(create(wish(c.id))->outcome, Outcome::hit);
  EXPECT_EQ(create(wish(a.id))->outcome, Outcome::miss);
  EXPECT_EQ(catalog_->quota(internal_project)->at("volumes").in_use, 2U);
}

TEST_F(ManageVolume, WhatADriverHasPutOffIsFinishedFromTimeToTime) {
  options_.maintain_interval = std::chrono::milliseconds(1);
  start();
  volumes_->start(io_->next());
  driver().hold(Op::maintain);
  ASSERT_TRUE(driver().wait_until_held(Op::maintain));
  driver().fail_call(Op::maintain, {Errc::unavailable, "the backend is away"});
  driver().release(Op::maintain);
  EXPECT_TRUE(eventually([&] { return driver().calls(Op::maintain) >= 3; })) << "after a failure it is tried again";
  EXPECT_EQ(driver().most_in_flight(Op::maintain), 1U);
}

TEST_F(Recover, AnImageVolumeWithoutItsSecondRowGoesToo) {
  start();
  catalog::Volume volume;
  volume.id = base::new_uuid();
  volume.name = "volume-" + volume.id;
  volume.project_id = internal_project;
  volume.image_id = base::new_uuid();
  volume.display_name = "image-" + volume.image_id;
  volume.metadata = {{"readonly", "True"}};
  volume.backend = "fast";
  volume.status = "creating";
  volume.size_gb = 1;
  ASSERT_TRUE(catalog_->create_volume(volume));
  restart();
  EXPECT_FALSE(row(volume.id));
}

TEST_F(Recover, StraysAreReportedAndNotTouched) {
  start();
  const auto created = create(wish("", 1));
  const std::string stray = "volume-" + base::new_uuid();
  ASSERT_TRUE(memory_["fast"]->create_volume({stray}, base::gib));
  ASSERT_TRUE(memory_["fast"]->create_volume({"somebody-elses"}, base::gib));
  restart();
  ASSERT_EQ(volumes_->strays().size(), 1U);
  EXPECT_EQ(volumes_->strays()[0].name, stray);
  EXPECT_EQ(volumes_->strays()[0].backend, "fast");
  EXPECT_EQ(on_backend().size(), 3U);
}

}  // namespace
}  // namespace imagecache::volume_cache
