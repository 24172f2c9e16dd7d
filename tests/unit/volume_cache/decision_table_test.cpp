// How Cinder decides a create from an image (cinder.volume.flows.manager.create_volume, CreateVolumeFromSpecTask, and
// cinder.image.cache), row by row, and what is decided here in its place. F: _create_from_image. P:
// _prepare_image_cache_entry. C: _create_from_image_cache_or_download. G, S, N, E: get_entry, ensure_space, the new
// entry, its eviction. "Not as Cinder" says where we are better on purpose.
//
// Row F2, a clone of a cinder:// location, is not decided here: cinder-volume's own, after the driver has been asked.
#include <fmt/format.h>

#include <algorithm>

#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

class CindersTable : public Rig {
 protected:
  std::string image(char letter) { return origin_.add(content(letter)).id; }
  Result<Created> create_later(const std::string& image_id, std::uint64_t size_gb = 1) {
    clock_.advance(seconds(1));
    return create(wish(image_id, size_gb));
  }
  std::set<std::string> kept() {
    std::set<std::string> images;
    for (const auto& image_volume : image_volumes()) images.insert(image_volume.image_id);
    return images;
  }
  std::uint64_t in_use(const std::string& project, const std::string& resource) {
    const auto quota = catalog_->quota(project).value();
    const auto found = quota.find(resource);  // of a type only while somebody has volumes of it
    return found == quota.end() ? 0 : found->second.in_use;
  }
};

// F0: image_meta.virtual_size must fit, else ImageUnacceptable and no second try.
TEST_F(CindersTable, F0VirtualSizeThatDoesNotFitIsUnacceptable) {
  start();
  auto info = origin_.add(content('a'));
  info.virtual_size_bytes = 2 * base::gib + 1;
  origin_.put(info, content('a'));
  const auto refused = create(wish(info.id, 2));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unacceptable_image);
  EXPECT_EQ(refused.error().message,
            fmt::format("Image {} is unacceptable: Image virtual size is 3GB and doesn't fit in a volume of size 2GB.",
                        info.id));
  EXPECT_EQ(origin_.streams(), 0U);
  EXPECT_TRUE(create(wish(info.id, 3)));
}

// F1: the driver is asked to clone, unless the volume is encrypted.
TEST_F(CindersTable, F1TheDriverClonesUnlessTheVolumeIsEncrypted) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create(wish(a)));
  const auto clones = driver().calls(Op::clone);
  EXPECT_TRUE(create(wish(a)));
  EXPECT_EQ(driver().calls(Op::clone), clones + 1);
  auto encrypted = wish(a);
  encrypted.encrypted = true;
  EXPECT_EQ(create(encrypted).error().code, Errc::unsupported) << "so that Cinder makes it";
  EXPECT_EQ(driver().calls(Op::clone), clones + 1);
}

// F1, "any exception propagates": a clone that fails is an error of this volume, and nothing of it stays.
TEST_F(CindersTable, F1AFailureOfTheCloneIsTheVolumesError) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create(wish(a)));
  driver().fail_call(Op::clone, {Errc::unavailable, "the array is away"});
  const auto request = wish(a);
  EXPECT_EQ(create(request).error().message, "the array is away");
  EXPECT_EQ(row(request.volume_id)->status, "error");
  EXPECT_FALSE(on_backend().contains("volume-" + request.volume_id));
}

// F3: with the cache on for this backend an entry is prepared; where it is off none is.
TEST_F(CindersTable, F3OnlyABackendWithItsCacheOnKeepsAnything) {
  backend_options_["off"].image_volume_cache_enabled = false;
  start();
  const auto a = image('a');
  EXPECT_EQ(create(wish(a, 1, "off"))->outcome, Outcome::uncached);
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_EQ(create(wish(a, 1, "fast"))->outcome, Outcome::miss);
  EXPECT_EQ(image_volumes().size(), 1U);
}

// F4: not cloned, so it is downloaded, and that holds up nobody else.
TEST_F(CindersTable, F4ADownloadHoldsUpNobody) {
  backend_options_["off"].image_volume_cache_enabled = false;
  start();
  const auto a = image('a'), slow = image('s');
  ASSERT_TRUE(create(wish(a)));
  origin_.hold(slow);
  auto downloading = begin_create(wish(slow, 1, "off"));
  ASSERT_TRUE(eventually([&] { return origin_.streams() == 2; }));
  EXPECT_EQ(create(wish(a))->outcome, Outcome::hit);
  origin_.release(slow);
  EXPECT_EQ(downloading.get()->outcome, Outcome::uncached);
}

// F9: bootable, the image's metadata, available.
TEST_F(CindersTable, F9WhatIsMadeIsBootableAndSaysOfWhichImage) {
  start();
  auto info = origin_.add(content('a'));
  info.properties = {{"os_distro", "debian"}, {"image_id", "a lie"}};
  origin_.put(info, content('a'));
  for (const Outcome wanted : {Outcome::miss, Outcome::hit}) {
    const auto made = create(wish(info.id));
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->outcome, wanted);
    const auto volume = row(made->volume.id).value();
    EXPECT_EQ(volume.status, "available");
    EXPECT_TRUE(volume.bootable);
    EXPECT_EQ(volume.image_metadata.at("os_distro"), "debian");
    EXPECT_EQ(volume.image_metadata.at("image_id"), info.id) << "base keys win over properties";
  }
}

// P, no internal tenant: nothing is kept, the volume is downloaded.
TEST_F(CindersTable, PWithoutAnInternalTenantNothingIsKept) {
  options_.internal_user_id.clear();
  start();
  EXPECT_EQ(create(wish(image('a')))->outcome, Outcome::uncached);
  EXPECT_TRUE(image_volumes().empty());
}

// P, hit: no lock is held. Not as Cinder: nor does a build of the same image on another backend hold it up.
TEST_F(CindersTable, PAHitWaitsForNoBuildElsewhere) {
  backend_options_["slow"].image_volume_cache_enabled = true;
  start();
  const auto a = image('a');
  ASSERT_TRUE(create(wish(a, 1, "fast")));
  driver("slow").hold(Op::copy);
  auto building = begin_create(wish(a, 1, "slow"));
  ASSERT_TRUE(driver("slow").wait_until_held(Op::copy));
  EXPECT_EQ(create(wish(a, 1, "fast"))->outcome, Outcome::hit);
  driver("slow").release(Op::copy);
  EXPECT_EQ(building.get()->outcome, Outcome::miss);
}

// P, miss: one builds it, who comes meanwhile waits. Not as Cinder: the volume is a clone of what is kept, not its
// parent.
TEST_F(CindersTable, PAMissBuildsOnceAndTheVolumeIsItsClone) {
  start();
  const auto a = image('a');
  driver().hold(Op::copy);
  auto first = begin_create(wish(a)), second = begin_create(wish(a));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 1; }));
  driver().release(Op::copy);
  for (auto* pending : {&first, &second}) {
    const auto made = pending->get();
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->volume.source_volume_id, image_volumes().at(0).volume_id);
  }
  EXPECT_EQ(counters_.volume_builds_completed, 1U);
}

// C1: room in image_conversion_dir. Not as Cinder: it is asked for only by what is converted there, never by a hit.
TEST_F(CindersTable, C1AHitNeedsNoConversionDirectory) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create(wish(a)));
  std::filesystem::remove_all(options_.convert.conversion_dir);
  const auto hit = create(wish(a));
  ASSERT_TRUE(hit) << hit.error().message;
  EXPECT_EQ(hit->outcome, Outcome::hit);
}

// C2, SnapshotLimitReached. Not as Cinder: another image-volume is made before the limit is met.
TEST_F(CindersTable, C2AtTheLimitOfClonesAnotherIsMade) {
  capabilities_ = Capabilities{.clone = CloneSupport::copy_on_write, .max_concurrency = 8, .clones_per_source = 1};
  start();
  const auto a = image('a');
  const auto first = create(wish(a)), second = create(wish(a));
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->volume.source_volume_id, second->volume.source_volume_id);
  EXPECT_EQ(first_bytes(first->volume.id, 2), "aa") << "a clone outlives its source";
}

// C2, NotImplementedError: downloaded.
TEST_F(CindersTable, C2ABackendThatCannotCloneGetsADownload) {
  capabilities_ = Capabilities{.clone = CloneSupport::none, .max_concurrency = 8};
  start();
  EXPECT_EQ(create(wish(image('a')))->outcome, Outcome::uncached);
  EXPECT_EQ(driver().calls(Op::clone), 0U);
}

// C2, the cached volume is missing or broken. Not as Cinder, where it fails or downloads for ever: it is made anew.
TEST_F(CindersTable, C2AMissingSourceIsMadeAnew) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create(wish(a)));
  const auto lost = image_volumes().at(0);
  ASSERT_TRUE(memory_["fast"]->delete_volume({row(lost.volume_id)->name}));
  const auto made = create(wish(a));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(first_bytes(made->volume.id, 2), "aa");
  EXPECT_NE(image_volumes().at(0).volume_id, lost.volume_id);
  EXPECT_EQ(counters_.image_volume_repairs, 1U);
}

// C3: what was downloaded is looked into, whatever Glance says of its size.
TEST_F(CindersTable, C3ADiskLargerThanTheVolumeIsFoundOut) {
  start();
  const auto big = origin_.add(empty_qcow2(3 * base::gib), "qcow2");
  const auto request = wish(big.id, 1);
  const auto refused = create(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unacceptable_image);
  EXPECT_NE(row(request.volume_id)->status_reason.find("Image virtual size is 3GB"), std::string::npos);
}

// C3: what is kept has the disk's size, not the first volume's. C6: the volume is extended to what was asked for.
TEST_F(CindersTable, C3C6WhatIsKeptIsMinimalAndTheVolumeIsExtended) {
  start();
  const auto big = origin_.add(empty_qcow2(2 * base::gib), "qcow2");
  for (const std::uint64_t size_gb : {5U, 3U}) {
    const auto made = create(wish(big.id, size_gb));
    ASSERT_TRUE(made) << made.error().message;
    std::byte last{1};
    const VolumeId name{"volume-" + made->volume.id};
    const auto read = memory_["fast"]->read(name, size_gb * base::gib - 1, std::span(&last, 1));
    EXPECT_EQ(read.value_or(0), 1U) << "it is shorter";
    EXPECT_EQ(memory_["fast"]->read(name, size_gb * base::gib, std::span(&last, 1)).value_or(9), 0U) << "or longer";
  }
  EXPECT_EQ(image_volumes().at(0).size_gb, 2U);
  EXPECT_EQ(in_use(internal_project, "gigabytes"), 2U);
}

// C5: after any failure nothing is left but the row and its reason.
TEST_F(CindersTable, C5AfterAFailureNothingIsLeft) {
  start();
  const auto a = image('a');
  for (const Op step : {Op::create, Op::copy, Op::seal}) {
    driver().fail_call(step, {Errc::internal, "input/output error"});
    const auto request = wish(a);
    EXPECT_FALSE(create(request));
    EXPECT_EQ(row(request.volume_id)->status_reason, "input/output error");
    EXPECT_TRUE(on_backend().empty());
    EXPECT_TRUE(image_volumes().empty());
    EXPECT_EQ(in_use(internal_project, "volumes"), 0U);
  }
}

// G: the entry of this backend only, and the one used last is the last to go.
TEST_F(CindersTable, GAnEntryBelongsToItsBackendAndAHitMakesItTheLatest) {
  backend_options_["other"].image_volume_cache_enabled = true;
  backend_options_["fast"].image_volume_cache_max_count = 2;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_TRUE(create_later(a));
  EXPECT_EQ(create(wish(a, 1, "other"))->outcome, Outcome::miss);
  ASSERT_TRUE(create_later(b));
  EXPECT_EQ(create_later(a)->outcome, Outcome::hit);
  ASSERT_TRUE(create_later(c));
  EXPECT_EQ(create_later(a)->outcome, Outcome::hit);
  EXPECT_EQ(create_later(b)->outcome, Outcome::miss);
}

// G and S: what Cinder compares is the whole host@backend#pool, so of a backend with several pools each has
// image-volumes, limits and marks of its own.
TEST_F(CindersTable, GSAPoolHasItsOwnEntriesAndLimits) {
  backend_options_["fast"].image_volume_cache_max_count = 2;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  const auto in_pool = [&](const std::string& image_id, const std::string& pool) {
    clock_.advance(seconds(1));
    auto request = wish(image_id, 1, "fast");
    request.pool = pool;
    const auto made = create(request);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(row(request.volume_id)->host, "host@fast#" + pool);
    return made ? made->outcome : Outcome::empty;
  };
  EXPECT_EQ(in_pool(a, "one"), Outcome::miss);
  EXPECT_EQ(in_pool(a, "two"), Outcome::miss) << "the other pool's is none of this one's";
  EXPECT_EQ(in_pool(b, "one"), Outcome::miss);
  EXPECT_EQ(in_pool(b, "two"), Outcome::miss);
  EXPECT_EQ(image_volumes().size(), 4U) << "two in each";
  for (const auto& one : image_volumes()) EXPECT_EQ(row(one.volume_id)->host, "host@fast#" + one.pool);
  restart();
  EXPECT_EQ(in_pool(c, "two"), Outcome::miss) << "the third: the oldest of this pool goes, and of no other";
  EXPECT_EQ(in_pool(a, "one"), Outcome::hit);
  EXPECT_EQ(in_pool(b, "one"), Outcome::hit);
  EXPECT_EQ(in_pool(b, "two"), Outcome::hit);
  EXPECT_EQ(in_pool(a, "two"), Outcome::miss);
}

// G, stale: an image of other bytes is another entry. Not as Cinder: an edit alone makes nothing stale, unless
// image_volume_staleness says so.
TEST_F(CindersTable, GAnImageIsStaleByItsContentOrByUpdatedAt) {
  start();
  auto info = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(info.id)));
  info.updated_at = "2026-03-03T00:00:00Z";
  origin_.put(info, content('a'));
  EXPECT_EQ(create(wish(info.id))->outcome, Outcome::hit);
  auto other = origin_.add(content('b'));
  other.id = info.id;
  origin_.put(other, content('b'));
  const auto made = create(wish(info.id));
  EXPECT_EQ(made->outcome, Outcome::miss);
  EXPECT_EQ(first_bytes(made->volume.id, 2), "bb");
  stop();
  options_.stale_by_updated_at = true;
  start();
  EXPECT_EQ(create(wish(info.id))->outcome, Outcome::miss);
  EXPECT_EQ(create(wish(info.id))->outcome, Outcome::hit);
}

// G, "the stale delete raises". Not as Cinder: an eviction that fails costs nobody his volume.
TEST_F(CindersTable, GAnEvictionThatFailsCostsNobodyHisVolume) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  start();
  ASSERT_TRUE(create_later(image('a')));
  driver().fail_call(Op::remove, {Errc::unavailable, "it is attached"});
  const auto made = create_later(image('b'));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->outcome, Outcome::uncached);
  EXPECT_NE(made->uncached_reason.find("it is attached"), std::string::npos);
}

// S: both limits 0: any number.
TEST_F(CindersTable, SWithoutLimitsNothingIsEvicted) {
  start();
  for (char letter = 'a'; letter < 'i'; ++letter) ASSERT_TRUE(create_later(image(letter)));
  EXPECT_EQ(image_volumes().size(), 8U);
  EXPECT_EQ(counters_.image_volume_evictions, 0U);
}

// S: larger than the limit itself: not kept, and nothing is evicted for it.
TEST_F(CindersTable, SWhatCanNeverFitEvictsNothing) {
  backend_options_["fast"].image_volume_cache_max_size_gb = 2;
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  EXPECT_EQ(create_later(origin_.add(empty_qcow2(3 * base::gib), "qcow2").id, 3)->outcome, Outcome::uncached);
  EXPECT_EQ(kept(), std::set{a});
}

// S: each limit works alone, and the least recently used go first, no more than needed.
TEST_F(CindersTable, SEachLimitWorksAloneOldestFirst) {
  for (const bool by_count : {true, false}) {
    SCOPED_TRACE(by_count);
    auto& limits = backend_options_["fast"];
    limits.image_volume_cache_max_count = by_count ? 3 : 0;
    limits.image_volume_cache_max_size_gb = by_count ? 0 : 3;
    start();
    const std::string add = by_count ? "abcd" : "efgh";
    std::vector<std::string> ids;
    for (const char letter : add) ids.push_back(image(letter));
    for (const auto& id : ids) ASSERT_TRUE(create_later(id));
    EXPECT_EQ(kept(), (std::set(ids.begin() + 1, ids.end())));
    stop();
  }
}

// N: the internal project's quota is taken: volumes and gigabytes, and both of the type.
TEST_F(CindersTable, NTheInternalTenantsQuotaIsTakenAndGivenBack) {
  start();
  ASSERT_TRUE(create(wish(origin_.add(empty_qcow2(2 * base::gib), "qcow2").id, 4)));
  EXPECT_EQ(in_use(internal_project, "volumes"), 1U);
  EXPECT_EQ(in_use(internal_project, "gigabytes"), 2U);
  EXPECT_EQ(in_use(internal_project, "volumes_fast-pool"), 1U);
  EXPECT_EQ(in_use(internal_project, "gigabytes_fast-pool"), 2U);
  EXPECT_EQ(in_use(user_project, "volumes"), 1U) << "the user pays for his own alone";
  EXPECT_EQ(in_use(user_project, "gigabytes"), 4U);
  ASSERT_TRUE(run(volumes_->evict(image_volumes().at(0).volume_id)));
  EXPECT_EQ(in_use(internal_project, "volumes"), 0U);
  EXPECT_EQ(in_use(internal_project, "gigabytes_fast-pool"), 0U);
}

// N, OverQuota: the user's volume is made uncached. Not as Cinder: room is made in the quota where that helps, and
// nothing is evicted where it does not.
TEST_F(CindersTable, NOverQuotaCostsTheCacheNotTheUser) {
  start();
  const auto a = image('a');
  ASSERT_TRUE(create_later(a));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"gigabytes", 1}}));
  const auto big = create_later(origin_.add(empty_qcow2(2 * base::gib), "qcow2").id, 2);
  ASSERT_TRUE(big) << big.error().message;
  EXPECT_EQ(big->outcome, Outcome::uncached);
  EXPECT_EQ(kept(), std::set{a});
  const auto b = image('b');
  EXPECT_EQ(create_later(b)->outcome, Outcome::miss);
  EXPECT_EQ(kept(), std::set{b});
}

// N: the row. Not as Cinder: nothing of the first user is in it.
TEST_F(CindersTable, NTheRowIsTheInternalTenantsAndReadonly) {
  start();
  const auto a = image('a');
  auto request = wish(a, 3);
  request.display_description = "a secret";
  request.metadata = {{"mine", "too"}};
  ASSERT_TRUE(create(request));
  const auto kept_row = row(image_volumes().at(0).volume_id).value();
  EXPECT_EQ(kept_row.project_id, options_.internal_project_id);
  EXPECT_EQ(kept_row.user_id, options_.internal_user_id);
  EXPECT_EQ(kept_row.display_name, "image-" + a);
  EXPECT_EQ(kept_row.status, "available");
  EXPECT_EQ(kept_row.host, "host@fast#fast-pool");
  EXPECT_EQ(kept_row.metadata, (std::map<std::string, std::string>{{"readonly", "True"}}));
  EXPECT_EQ(kept_row.display_description, "");
  EXPECT_FALSE(kept_row.bootable);
}

// E: the volume goes with its entry, and it is told. Not as Cinder: the row stays until the storage has let go.
TEST_F(CindersTable, EAnEvictionTakesVolumeAndEntryAndIsTold) {
  notifier_.is_on = true;
  start();
  ASSERT_TRUE(create(wish(image('a'))));
  const auto id = image_volumes().at(0).volume_id;
  driver().fail_call(Op::remove, {Errc::unavailable, "the storage is away"});
  EXPECT_FALSE(run(volumes_->evict(id)));
  EXPECT_TRUE(row(id)) << "no storage without a row";
  ASSERT_TRUE(run(volumes_->evict(id)));
  EXPECT_FALSE(row(id));
  EXPECT_TRUE(image_volumes().empty());
  const auto types = notifier_.types();
  EXPECT_EQ(std::ranges::count(types, "image_volume_cache.evict"), 1);
}

}  // namespace
}  // namespace imagecache::volume_cache
