// What is made of a tenant's volume: another volume, an image.
#include "rig.hpp"

namespace imagecache::volume_cache {
namespace {

class Copies : public Rig {
 protected:
  /// A finished volume of the user's with this image's bytes.
  std::string made(const std::string& bytes, std::uint64_t size_gb = 1) {
    const auto created = create(wish(origin_.add(bytes).id, size_gb));
    EXPECT_TRUE(created) << created.error().message;
    return created ? created->volume.id : "";
  }
  static CreateRequest copy_of(const std::string& source, std::uint64_t size_gb = 1) {
    CreateRequest request = wish("", size_gb);
    request.source_volid = source;
    return request;
  }
  std::string status(const std::string& id) { return row(id)->status; }
  std::vector<catalog::Message> messages() { return catalog_->list_messages(user_project).value(); }
  UploadRequest upload(const std::string& id, const std::string& name = "an upload") {
    UploadRequest request;
    request.volume_id = id;
    request.image_name = name;
    return request;
  }
};

TEST_F(Copies, ACopyHoldsItsSourcesBytesAndOutlivesIt) {
  start();
  const auto source = made(content('s'));
  const auto copied = create(copy_of(source, 2));
  ASSERT_TRUE(copied) << copied.error().message;
  EXPECT_EQ(copied->outcome, Outcome::copied);
  const auto found = row(copied->volume.id);
  EXPECT_EQ(found->source_volid, source);
  EXPECT_EQ(found->source_volume_id, "");
  EXPECT_EQ(found->size_gb, 2U);
  EXPECT_TRUE(found->bootable);
  EXPECT_EQ(found->image_metadata, row(source)->image_metadata);
  ASSERT_TRUE(run(volumes_->remove(source)));
  ASSERT_TRUE(eventually([&] { return !row(source); }));
  EXPECT_EQ(first_bytes(copied->volume.id, 65536), content('s'));
  EXPECT_EQ(first_bytes(copied->volume.id, 65537).back(), 0);
  // Never a clone of a tenant's volume: nothing but the image-volume was cloned.
  EXPECT_EQ(driver().calls(Op::clone), 1U);
}

TEST_F(Copies, WhatLiesBehindAHoleIsCopiedToItsPlaceAndTheHoleIsNot) {
  start();
  const std::string disk = content('a') + std::string(65536, '\0') + content('z');
  const auto copied = create(copy_of(made(disk)));
  ASSERT_TRUE(copied) << copied.error().message;
  EXPECT_EQ(first_bytes(copied->volume.id, disk.size()), disk);
  EXPECT_EQ(memory_.at("fast")->used_bytes({"volume-" + copied->volume.id}).value(), 2U * 65536);
}

TEST_F(Copies, ALoneByteAmongZeroesIsCopiedToItsPlaceWhereverItLies) {
  start();
  constexpr std::size_t block = 65536, chunk = 4 << 20;
  std::string disk(2 * chunk + block, '\0');
  for (const std::size_t at : {block - 1, 2 * block, 5 * block + 77, chunk - 1, chunk + 3 * block, disk.size() - 1}) {
    disk[at] = 'x';
  }
  const auto copied = create(copy_of(made(disk)));
  ASSERT_TRUE(copied) << copied.error().message;
  EXPECT_TRUE(first_bytes(copied->volume.id, disk.size()) == disk);
}

TEST_F(Copies, WhatIsAttachedIsCopiedAndByForceUploaded) {
  start();
  const auto source = made(content('s'));
  ASSERT_TRUE(catalog_->update_volume(source, {.status = "in-use", .attach = catalog::Attachment{.id = "a"}}));
  EXPECT_TRUE(create(copy_of(source)));
  EXPECT_EQ(run(volumes_->start_upload(upload(source), user())).error().code, Errc::conflict);
  auto by_force = upload(source);
  by_force.force = true;
  ASSERT_TRUE(run(volumes_->start_upload(by_force, user())));
  EXPECT_TRUE(eventually([&] { return status(source) == "in-use"; }));
}

TEST_F(Copies, ASourceThatHasFailedMeanwhileIsNotCopied) {
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  auto first = begin_create(copy_of(source));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  const auto waits = copy_of(source);
  auto second = begin_create(waits);
  ASSERT_TRUE(eventually([&] { return row(waits.volume_id).has_value(); }));
  ASSERT_TRUE(catalog_->update_volume(source, {.status = "error"}));
  driver().release(Op::copy);
  EXPECT_TRUE(first.get());
  const auto refused = second.get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "Source volume " + source + " is error by now.");
}

TEST_F(Copies, NoMoreAreAtWorkThanMayBe) {
  options_.max_creates = 2;
  options_.max_volume_copies = 1;
  start();
  const std::array sources{made(content('a')), made(content('b')), made(content('c'))};
  driver().hold(Op::copy);
  std::vector<std::future<Result<Created>>> copies;
  for (const auto& source : sources) {
    const auto request = copy_of(source);
    copies.push_back(begin_create(request));
    ASSERT_TRUE(eventually([&] { return row(request.volume_id).has_value(); }));
    ASSERT_TRUE(eventually([&] { return create(wish("", 1)).has_value(); })) << "it waits, or is the one at work";
  }
  EXPECT_TRUE(eventually([&] {
    const auto refused = create(copy_of(sources[0]));
    return !refused && refused.error().message.contains("2 copies of volumes wait");
  }));
  EXPECT_EQ(driver().calls(Op::read), 1U);
  driver().release(Op::copy);
  for (auto& one : copies) EXPECT_TRUE(one.get());
}

TEST_F(Copies, ASourceIsNotDeletedWhileItIsRead) {
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  auto copying = begin_create(copy_of(source));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  ASSERT_TRUE(run(volumes_->remove(source)));
  EXPECT_EQ(driver().calls(Op::remove), 0U);
  driver().release(Op::copy);
  ASSERT_TRUE(copying.get());
  EXPECT_TRUE(eventually([&] { return !row(source); }));
  EXPECT_EQ(driver().calls(Op::remove), 1U);
}

TEST_F(Copies, WhatCannotBeCopiedIsRefusedBeforeARowIsMade) {
  start();
  const auto source = made(content('s'), 2);
  const auto smaller = create(copy_of(source, 1));
  ASSERT_FALSE(smaller);
  EXPECT_EQ(smaller.error().code, Errc::invalid_argument);
  EXPECT_NE(smaller.error().message.find("cannot be smaller than original volume size"), std::string::npos);
  EXPECT_EQ(create(copy_of(base::new_uuid())).error().code, Errc::not_found);
  for (const char* status : {"error", "creating", "uploading", "extending", "deleting", "error_deleting"}) {
    ASSERT_TRUE(catalog_->update_volume(source, {.status = status}));
    EXPECT_EQ(create(copy_of(source, 2)).error().code, Errc::invalid_argument) << status;
  }
  EXPECT_EQ(catalog_->list_volumes({.project_id = user_project}).value().size(), 1U);
}

TEST_F(Copies, AnImageVolumeIsNeitherCopiedNorUploadedNorAttached) {
  start();
  made(content('s'));
  const auto id = image_volumes().at(0).volume_id;
  EXPECT_EQ(create(copy_of(id)).error().code, Errc::invalid_argument);
  const auto uploaded = run(volumes_->start_upload(upload(id), user()));
  ASSERT_FALSE(uploaded);
  EXPECT_EQ(uploaded.error().code, Errc::conflict);
  EXPECT_NE(uploaded.error().message.find("is an image-volume"), std::string::npos) << uploaded.error().message;
  EXPECT_EQ(status(id), "available");
  EXPECT_EQ(run(volumes_->check_no_image_volume(id)).error().code, Errc::conflict);
  EXPECT_TRUE(run(volumes_->check_no_image_volume(made(content('t')))));
}

TEST_F(Copies, AnImageVolumeThatIsReadIsNotRemovedByARestart) {
  start();
  made(content('s'));
  const auto id = image_volumes().at(0).volume_id;
  for (const char* left : {"uploading", "attaching"}) {
    ASSERT_TRUE(catalog_->update_volume(id, {.status = left}));
    restart();
    ASSERT_TRUE(row(id)) << left;
    EXPECT_EQ(status(id), "available");
    EXPECT_TRUE(on_backend().contains("volume-" + id));
  }
  ASSERT_TRUE(catalog_->update_volume(id, {.status = "in-use", .attach = catalog::Attachment{.id = "a"}}));
  restart();
  ASSERT_TRUE(row(id));
  EXPECT_EQ(status(id), "in-use");
}

TEST_F(Copies, WhereVolumesCannotBeReadNeitherRowNorImageIsMade) {
  capabilities_ = Capabilities{.clone = CloneSupport::copy_on_write, .max_concurrency = 8, .can_read_volumes = false};
  start();
  const auto source = made(content('s'));
  EXPECT_EQ(create(copy_of(source)).error().code, Errc::unsupported);
  EXPECT_EQ(catalog_->list_volumes({.project_id = user_project}).value().size(), 1U);
  const auto refused = run(volumes_->start_upload(upload(source, "refused"), user()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unsupported) << "the origin was asked: " << refused.error().message;
  EXPECT_EQ(status(source), "available");
}

TEST_F(Copies, AFailedCopyLeavesNothingAndTellsItsOwner) {
  start();
  const auto source = made(content('s'));
  driver().fail_call(Op::copy, {Errc::no_space, "the disks are full at /srv"});
  const auto request = copy_of(source);
  const auto failed = create(request);
  ASSERT_FALSE(failed);
  EXPECT_EQ(status(request.volume_id), "error");
  EXPECT_FALSE(on_backend().contains("volume-" + request.volume_id));
  EXPECT_EQ(status(source), "available");
  ASSERT_EQ(messages().size(), 1U);
  EXPECT_EQ(messages()[0].resource_id, request.volume_id);
  // Where our disks are is not the tenant's to know.
  EXPECT_EQ(messages()[0].text, "create volume from backend storage:Driver failed to create the volume.");
}

TEST_F(Copies, AnUploadedVolumeIsAnImageOfItsBytes) {
  start();
  const auto source = made(content('u'));
  origin_.hold(MemoryOrigin::uploads);
  const auto image = run(volumes_->start_upload(upload(source), user()));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->status, "queued");
  EXPECT_EQ(status(source), "uploading");
  EXPECT_EQ(run(volumes_->remove(source)).error().code, Errc::conflict);
  EXPECT_EQ(run(volumes_->start_upload(upload(source), user())).error().code, Errc::conflict);
  origin_.release(MemoryOrigin::uploads);
  ASSERT_TRUE(eventually([&] { return status(source) == "available"; }));
  const auto [size_bytes, first] = origin_.uploaded(image->id);
  EXPECT_EQ(size_bytes, base::gib);
  ASSERT_GT(first.size(), 65536U);
  EXPECT_EQ(first.substr(0, 65536), content('u'));
  EXPECT_EQ(first.find_first_not_of('\0', 65536), std::string::npos);
  // What the volume had of its image is carried over, but for what is the old image's own.
  EXPECT_FALSE(image->properties.contains("checksum"));
  EXPECT_FALSE(image->properties.contains("image_id"));
  EXPECT_TRUE(messages().empty());
}

TEST_F(Copies, UploadsKeepNoImageWaiting) {
  start();
  const std::array volumes{made(content('a')), made(content('b'))};
  origin_.hold(MemoryOrigin::uploads);
  for (const auto& id : volumes) ASSERT_TRUE(run(volumes_->start_upload(upload(id), user())));
  // All there may be at once are under way; and a build still gets its turn.
  ASSERT_TRUE(eventually([&] { return driver().calls(Op::read) == volumes.size(); }));
  const auto built = create(wish(origin_.add(content('c')).id));
  EXPECT_TRUE(built) << built.error().message;
  origin_.release(MemoryOrigin::uploads);
  for (const auto& id : volumes) EXPECT_TRUE(eventually([&] { return status(id) == "available"; }));
}

TEST_F(Copies, OfManyUploadsOfOneVolumeAtOnceOneIsStarted) {
  start();
  const auto id = made(content('s'));
  origin_.hold(MemoryOrigin::uploads);
  std::vector<std::future<Result<origin::ImageInfo>>> starting;
  starting.reserve(12);
  for (int i = 0; i < 12; ++i) starting.push_back(begin(volumes_->start_upload(upload(id), user())));
  unsigned started = 0;
  for (auto& one : starting) {
    const auto image = one.get();
    if (image) {
      ++started;
    } else {
      EXPECT_EQ(image.error().code, Errc::conflict);
    }
  }
  EXPECT_EQ(started, 1U);
  origin_.release(MemoryOrigin::uploads);
  EXPECT_TRUE(eventually([&] { return status(id) == "available"; }));
}

TEST_F(Copies, AnUploadIsCalledOffWithItsVolume) {
  start();
  const auto source = made(content('u'));
  origin_.hold(MemoryOrigin::uploads);
  const auto image = run(volumes_->start_upload(upload(source), user()));
  ASSERT_TRUE(image);
  ASSERT_TRUE(eventually([&] { return driver().calls(Op::read) == 1; }));
  // Who asks for what must wait for its end is told so, and does not wait.
  EXPECT_EQ(run(volumes_->extend(source, 2)).error().code, Errc::conflict);
  EXPECT_EQ(run(volumes_->retype(source, {.name = "other"})).error().code, Errc::conflict);
  EXPECT_TRUE(run(volumes_->cancel(source)));
  EXPECT_FALSE(row(source));
  EXPECT_TRUE(eventually([&] { return !origin_.has(image->id); }));
}

TEST_F(Copies, WhoExtendsTheSourceWaitsForNobodyAndItIsDoneAfterTheCopy) {
  options_.max_creates = 2;
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  const auto first = copy_of(source), second = copy_of(source);
  auto copying = begin_create(first);
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  auto waiting = begin_create(second);
  ASSERT_TRUE(eventually([&] { return row(second.volume_id).has_value(); }));
  ASSERT_TRUE(eventually([&] { return create(wish("")).has_value(); })) << "there is room once the second waits";
  ASSERT_TRUE(run(volumes_->start_extend(source, 2)));
  EXPECT_EQ(status(source), "extending");
  EXPECT_EQ(row(source)->size_gb, 2U);
  EXPECT_EQ(driver().calls(Op::extend), 0U);
  EXPECT_EQ(run(volumes_->start_extend(source, 3)).error().code, Errc::conflict);
  EXPECT_EQ(run(volumes_->remove(source)).error().code, Errc::conflict);
  driver().release(Op::copy);
  EXPECT_TRUE(copying.get());
  const auto also = waiting.get();
  EXPECT_TRUE(also) << also.error().message;
  ASSERT_TRUE(eventually([&] { return status(source) == "available"; }));
  EXPECT_EQ(driver().calls(Op::extend), 1U);
  EXPECT_EQ(row(first.volume_id)->size_gb, 1U);
}

TEST_F(Copies, WhatIsDeletedByForceWhileItsExtensionWaitsIsNotExtended) {
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  auto copying = begin_create(copy_of(source));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  ASSERT_TRUE(run(volumes_->start_extend(source, 2)));
  ASSERT_TRUE(run(volumes_->force_remove(source)));
  driver().release(Op::copy);
  EXPECT_TRUE(copying.get());
  EXPECT_TRUE(eventually([&] { return !row(source); }));
  EXPECT_EQ(driver().calls(Op::extend), 0U);
}

TEST_F(Copies, WhoDeletesTheSourceByForceWaitsForNobodyAndTheCopyIsWhole) {
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  const auto request = copy_of(source);
  auto copying = begin_create(request);
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  ASSERT_TRUE(run(volumes_->force_remove(source)));
  EXPECT_EQ(status(source), "deleting");
  EXPECT_EQ(driver().calls(Op::remove), 0U) << "it is being read";
  driver().release(Op::copy);
  EXPECT_TRUE(copying.get());
  EXPECT_EQ(first_bytes(request.volume_id, 65536), content('s'));
  EXPECT_TRUE(eventually([&] { return !row(source); }));
  EXPECT_FALSE(on_backend().contains("volume-" + source));
}

TEST_F(Copies, AnUploadIsCalledOffByForceAndItsVolumeGoes) {
  start();
  const auto source = made(content('u'));
  origin_.hold(MemoryOrigin::uploads);
  const auto image = run(volumes_->start_upload(upload(source), user()));
  ASSERT_TRUE(image);
  ASSERT_TRUE(eventually([&] { return driver().calls(Op::read) == 1; }));
  ASSERT_TRUE(run(volumes_->force_remove(source)));
  EXPECT_TRUE(eventually([&] { return !row(source); }));
  EXPECT_TRUE(eventually([&] { return !origin_.has(image->id); }));
}

TEST_F(Copies, TheEndOfItsUploadDoesNotCallAVolumeAvailableThatIsBeingDeletedByForce) {
  start();
  const auto source = made(content('u'));
  origin_.hold(MemoryOrigin::uploads);
  ASSERT_TRUE(run(volumes_->start_upload(upload(source), user())));
  ASSERT_TRUE(eventually([&] { return driver().calls(Op::read) == 1; }));
  origin_.hold(MemoryOrigin::deletions);
  ASSERT_TRUE(run(volumes_->force_remove(source)));
  ASSERT_TRUE(eventually([&] { return origin_.deletions_asked() == 1; })) << "the upload has ended";
  EXPECT_EQ(status(source), "deleting") << "a crash now, and it would be there again";
  origin_.release(MemoryOrigin::deletions);
  EXPECT_TRUE(eventually([&] { return !row(source); }));
}

TEST_F(Copies, CopiesThatWaitKeepNoOtherCreateOutAndAsManyMayWait) {
  options_.max_creates = 2;
  options_.max_volume_copies = 1;
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  std::vector<std::future<Result<Created>>> copies;
  copies.push_back(begin_create(copy_of(source)));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  for (int i = 0; i < 2; ++i) {
    const auto request = copy_of(source);
    copies.push_back(begin_create(request));
    ASSERT_TRUE(eventually([&] { return row(request.volume_id).has_value(); }));
    // In its way to where it waits it is one of those that are at work.
    ASSERT_TRUE(eventually([&] { return create(wish("", 1)).has_value(); }));
  }
  ASSERT_TRUE(eventually([&] {
    const auto refused = create(copy_of(source));
    return !refused && refused.error().message.contains("2 copies of volumes wait");
  }));
  driver().release(Op::copy);
  for (auto& one : copies) EXPECT_TRUE(one.get());
}

TEST_F(Copies, ACopyThatWaitsForItsSourceIsCalledOff) {
  start();
  const auto source = made(content('s'));
  driver().hold(Op::copy);
  auto first = begin_create(copy_of(source));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  const auto waits = copy_of(source);
  ASSERT_TRUE(run(volumes_->start_create(waits, user())));
  EXPECT_TRUE(run(volumes_->cancel(waits.volume_id)));
  EXPECT_FALSE(row(waits.volume_id));
  driver().release(Op::copy);
  EXPECT_TRUE(first.get());
}

TEST_F(Copies, AnUploadThatBreaksTakesTheImageBackAndTheVolumeStaysAsItWas) {
  start();
  const auto source = made(content('u'));
  origin_.break_uploads();
  auto request = upload(source);
  request.is_protected = true;  // which would keep it from being taken back
  const auto image = run(volumes_->start_upload(request, user()));
  ASSERT_TRUE(image);
  ASSERT_TRUE(eventually([&] { return status(source) == "available" && !messages().empty(); }));
  EXPECT_FALSE(origin_.has(image->id));
  EXPECT_EQ(messages()[0].text, "copy volume to image:Failed to upload volume to image at backend.");
}

TEST_F(Copies, AnUploadWhoseAnswerIsLostIsASuccessIfItsImageIsActive) {
  start();
  const auto source = made(content('u'));
  origin_.lose_answers();
  const auto image = run(volumes_->start_upload(upload(source), user()));
  ASSERT_TRUE(image);
  ASSERT_TRUE(eventually([&] { return status(source) == "available"; }));
  stop();  // whatever follows has been done
  EXPECT_TRUE(origin_.has(image->id));
  start();
  EXPECT_TRUE(messages().empty());
}

TEST_F(Copies, AnUploadThatWasRefusedIsNoSuccessWhateverTheImageSays) {
  start();
  const auto source = made(content('u'));
  origin_.lose_answers({Errc::conflict, "it has its bytes already"});
  const auto image = run(volumes_->start_upload(upload(source), user()));
  ASSERT_TRUE(image);
  ASSERT_TRUE(eventually([&] { return !messages().empty(); }));
  EXPECT_FALSE(origin_.has(image->id));
}

TEST_F(Copies, AnImageIsProtectedWhenItIsWhole) {
  start();
  const auto source = made(content('u'));
  auto request = upload(source);
  request.is_protected = true;
  origin_.hold(MemoryOrigin::uploads);
  const auto image = run(volumes_->start_upload(request, user()));
  ASSERT_TRUE(image);
  EXPECT_FALSE(origin_.is_protected(image->id));
  origin_.release(MemoryOrigin::uploads);
  EXPECT_TRUE(eventually([&] { return origin_.is_protected(image->id); }));
}

TEST_F(Copies, ImageMetadataDoesNotDecideWhatTheNewImageIs) {
  start();
  const auto source = made(content('u'));
  std::map<std::string, std::string> metadata{{"hw_disk_bus", "scsi"}};
  for (const char* key : {"id", "visibility", "protected", "status", "owner", "tags", "os_hidden", "os_hash_value",
                          "os_glance_importing_to_stores", "img_signature_hash_method"})
    metadata[key] = "mine";
  metadata["min_disk"] = "3";
  metadata["min_ram"] = "512";
  ASSERT_TRUE(catalog_->update_volume(source, {.image_metadata = metadata}));
  auto request = upload(source);
  request.visibility = "shared";
  const auto image = run(volumes_->start_upload(request, user()));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->properties, (std::map<std::string, std::string>{{"hw_disk_bus", "scsi"}}));
  const auto said = origin_.new_image(image->id);
  EXPECT_EQ(said.visibility, "shared");
  EXPECT_EQ(said.min_disk_gb, 3U);
  EXPECT_EQ(said.min_ram_mb, 512U);
  EXPECT_TRUE(eventually([&] { return status(source) == "available"; }));
}

TEST_F(Copies, AnImageThatMayNotBeMadeLeavesTheVolumeAvailable) {
  start();
  const auto source = made(content('u'));
  EXPECT_EQ(run(volumes_->start_upload(upload(source, "refused"), user())).error().code, Errc::forbidden);
  EXPECT_EQ(status(source), "available");
  auto converted = upload(source);
  converted.disk_format = "qcow2";
  EXPECT_EQ(run(volumes_->start_upload(converted, user())).error().code, Errc::unsupported);
  auto wrapped = upload(source);
  wrapped.container_format = "ovf";
  EXPECT_EQ(run(volumes_->start_upload(wrapped, user())).error().code, Errc::unsupported);
  EXPECT_EQ(status(source), "available");
}

TEST_F(Copies, ACrashInTheMiddleOfAnUploadIsSettledAtTheNextStart) {
  start();
  const auto source = made(content('u'));
  // What a kill leaves behind; a stop in good order ends the upload first.
  ASSERT_TRUE(catalog_->update_volume(source, {.status = "uploading"}));
  restart();
  EXPECT_EQ(status(source), "available");
  EXPECT_EQ(first_bytes(source, 65536), content('u'));
  ASSERT_TRUE(catalog_->update_volume(source, {.status = "uploading", .attach = catalog::Attachment{.id = "a"}}));
  restart();
  EXPECT_EQ(status(source), "in-use");
}

TEST_F(Copies, AStopEndsAnUploadAndTakesItsImageBack) {
  start();
  const auto source = made(content('u'));
  origin_.hold(MemoryOrigin::uploads);
  const auto image = run(volumes_->start_upload(upload(source), user()));
  ASSERT_TRUE(image);
  stop(seconds(0));
  EXPECT_FALSE(origin_.has(image->id));
  start();
  EXPECT_EQ(status(source), "available");
}

TEST_F(Copies, AStatusSetByHandIsNoWorkThatWasCutShort) {
  start();
  const auto source = made(content('s'));
  ASSERT_TRUE(catalog_->update_volume(
      source, {.status = "creating", .status_reason = "reset by an administrator from available"}));
  // Nor a create that anyone may go on with.
  auto again = wish(row(source)->image_id);
  again.volume_id = source;
  EXPECT_FALSE(create(again));
  restart();
  EXPECT_EQ(status(source), "error");
  EXPECT_EQ(first_bytes(source, 65536), content('s'));
}

TEST_F(Copies, WorkThatBeginsAfterAStatusWasSetByHandIsWorkAgain) {
  start();
  const auto set_by_hand = [&](const std::string& id, const char* now) {
    ASSERT_TRUE(catalog_->update_volume(id, {.status = now, .status_reason = "reset by an administrator from in-use"}));
  };
  const auto extended = made(content('e'));
  set_by_hand(extended, "available");
  driver().hold(Op::extend);
  auto extending = begin(volumes_->extend(extended, 2));
  ASSERT_TRUE(driver().wait_until_held(Op::extend));
  EXPECT_EQ(row(extended)->status_reason, "");
  driver().release(Op::extend);
  EXPECT_TRUE(extending.get());

  set_by_hand(extended, "available");
  origin_.hold(MemoryOrigin::uploads);
  ASSERT_TRUE(run(volumes_->start_upload(upload(extended), user())));
  EXPECT_EQ(row(extended)->status_reason, "");
  origin_.release(MemoryOrigin::uploads);
  ASSERT_TRUE(eventually([&] { return status(extended) == "available"; }));

  for (const bool by_force : {false, true}) {
    const auto removed = made(content('r'));
    set_by_hand(removed, "error");
    driver().hold(Op::remove);
    auto removing = begin(by_force ? volumes_->cancel(removed) : volumes_->remove(removed));
    ASSERT_TRUE(driver().wait_until_held(Op::remove));
    EXPECT_EQ(status(removed), "deleting");
    EXPECT_EQ(row(removed)->status_reason, "") << by_force;
    driver().release(Op::remove);
    EXPECT_TRUE(removing.get());
    EXPECT_TRUE(eventually([&] { return !row(removed); }));
  }
}

class Scheduling : public Copies {
 protected:
  catalog::VolumeType type(const std::string& name, std::map<std::string, std::string> specs) {
    catalog::VolumeType made{.id = base::new_uuid(), .name = name, .extra_specs = std::move(specs)};
    EXPECT_TRUE(catalog_->create_volume_type(made));
    return made;
  }
};

TEST_F(Scheduling, AVolumeGoesToTheFirstBackendThatAgreesWithItsType) {
  backend_options_["slow"].storage_protocols = {"nfs"};
  start();
  type("shared", {{"storage_protocol", "nfs"}, {"vendor_name", "Open Source"}});
  auto request = wish(origin_.add(content('a')).id);
  request.volume_type = "shared";
  const auto created = create(request);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_EQ(created->volume.backend, "slow");
  EXPECT_EQ(created->volume.volume_type, "shared");
}

TEST_F(Scheduling, WhereNoBackendAgreesTheVolumeFailsAndItsOwnerIsTold) {
  start();
  type("odd", {{"storage_protocol", "pigeon"}});
  auto request = wish(origin_.add(content('a')).id);
  request.volume_type = "odd";
  const auto failed = create(request);
  ASSERT_FALSE(failed);
  EXPECT_EQ(status(request.volume_id), "error");
  EXPECT_EQ(row(request.volume_id)->backend, "");
  ASSERT_EQ(messages().size(), 1U);
  EXPECT_EQ(messages()[0].text, "schedule allocate volume:Could not find any available weighted backend.");
  EXPECT_EQ(messages()[0].action_id, "001");
  EXPECT_EQ(messages()[0].detail_id, "003");
  ASSERT_TRUE(run(volumes_->remove(request.volume_id)));
  EXPECT_TRUE(eventually([&] { return !row(request.volume_id); }));
}

TEST_F(Scheduling, ADisabledOrFrozenServiceGetsNoNewVolume) {
  backend_options_["slow"].image_volume_cache_enabled = true;
  start();
  const auto image = origin_.add(content('a')).id;
  ASSERT_TRUE(catalog_->set_service_state("host@fast", {.disabled = true}));
  EXPECT_EQ(create(wish(image))->volume.backend, "slow");
  ASSERT_TRUE(catalog_->set_service_state("host@slow", {.frozen = true}));
  EXPECT_FALSE(create(wish(image)));
  ASSERT_TRUE(catalog_->set_service_state("host@fast", {}));
  EXPECT_EQ(create(wish(image))->volume.backend, "fast");
}

TEST_F(Scheduling, AnImageMayNameTheType) {
  start();
  type("gold", {{"volume_backend_name", "fast-pool"}});
  auto info = origin_.add(content('a'));
  info.properties["cinder_img_volume_type"] = "gold";
  origin_.put(info, content('a'));
  EXPECT_EQ(create(wish(info.id))->volume.volume_type, "gold");
  info.properties["cinder_img_volume_type"] = "of which there is none";
  origin_.put(info, content('a'));
  EXPECT_EQ(create(wish(info.id))->volume.volume_type, "fast-pool");
}

TEST_F(Scheduling, AnImageMayNameAPrivateTypeToWhoMayUseIt) {
  start();
  const auto gold = type("gold", {{"volume_backend_name", "fast-pool"}});
  auto made_private = gold;
  made_private.is_public = false;
  ASSERT_TRUE(catalog_->update_volume_type(made_private));
  auto info = origin_.add(content('a'));
  info.properties["cinder_img_volume_type"] = "gold";
  origin_.put(info, content('a'));
  EXPECT_EQ(create(wish(info.id))->volume.volume_type, "fast-pool");
  ASSERT_TRUE(catalog_->add_type_access(gold.id, user_project));
  const auto made = create(wish(info.id));
  EXPECT_EQ(made->volume.volume_type, "gold");
  ASSERT_TRUE(run(volumes_->cancel(made->volume.id)));
  ASSERT_TRUE(catalog_->set_type_encryption(gold.id, {{"provider", "luks"}}));
  EXPECT_EQ(create(wish(info.id)).error().code, Errc::unsupported) << "not in plain text of another type";
}

TEST_F(Scheduling, NothingBecomesEncryptedByARetypeOrACopy) {
  start();
  const auto id = made(content('a'));
  auto secret = type("secret", {{"volume_backend_name", "fast-pool"}});
  ASSERT_TRUE(catalog_->set_type_encryption(secret.id, {{"provider", "luks"}}));
  secret.encryption = {{"provider", "luks"}};
  EXPECT_EQ(run(volumes_->retype(id, secret)).error().code, Errc::unsupported);
  CreateRequest copy;
  copy.volume_id = base::new_uuid();
  copy.source_volid = id;
  copy.volume_type = "secret";
  copy.size_gb = 1;
  EXPECT_EQ(create(copy).error().code, Errc::unsupported);
}

TEST_F(Scheduling, ARetypeStaysOnTheBackend) {
  backend_options_["slow"].storage_protocols = {"nfs"};
  start();
  const auto id = made(content('a'));
  const auto same = type("same", {{"volume_backend_name", "fast-pool"}});
  ASSERT_TRUE(run(volumes_->retype(id, same)));
  EXPECT_EQ(row(id)->volume_type, "same");
  EXPECT_EQ(run(volumes_->retype(id, same)).error().code, Errc::conflict);
  EXPECT_EQ(run(volumes_->retype(id, type("other", {{"storage_protocol", "nfs"}}))).error().code, Errc::unsupported);
}

}  // namespace
}  // namespace imagecache::volume_cache
