// Instant import: image-volumes that are cloned before their bytes have been copied, and the image files that are held
// for who reads from them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

using ::testing::StartsWith;

class Import : public Rig {
 protected:
  Import() {
    options_.import_linger = {};
    options_.import_look_interval = std::chrono::milliseconds(1);
    backend_options_["fast"].import_url = "http://192.0.2.1:9393";
  }
  void start() {
    Rig::start();
    volumes_->start(io_->next());
  }
  void restart() {
    stop();
    start();
  }

  std::string image(char letter) { return origin_.add(content(letter)).id; }
  /// The id of the image-volume of an image.
  std::string of_image(const std::string& image_id) {
    for (const auto& one : image_volumes()) {
      if (one.image_id == image_id) return one.volume_id;
    }
    return "";
  }
  std::string state(const std::string& image_id) { return std::string(volumes_->import_state(of_image(image_id))); }
  bool is_over(const std::string& image_id) {
    return eventually([&] { return state(image_id).empty() && images_->held().empty(); });
  }
  std::filesystem::path held_file() const {
    return directory_.path() / "images" / ".cinder-image-cache" / "held" / images_->held().at(0).name;
  }
  unsigned calls(Op op) { return driver().calls(op); }
  /// Of what goes on by itself.
  void round(base::Task<void> (VolumeCache::*call)()) {
    const auto run_it = [](VolumeCache* cache, base::Task<void> (VolumeCache::*which)()) -> base::Task<bool> {
      co_await (cache->*which)();
      co_return true;
    };
    ASSERT_TRUE(run(run_it(volumes_.get(), call)));
  }
};

TEST_F(Import, AVolumeIsThereBeforeItsBytesAreCopiedAndWhatItIsReadFromIsHeldUntilThen) {
  start();
  driver().hold(Op::finish);
  const auto id = image('a');
  const auto made = create(wish(id));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->outcome, Outcome::miss);
  EXPECT_EQ(calls(Op::copy), 0U) << "nothing was copied for it";
  EXPECT_EQ(first_bytes(made->volume.id, 4), "aaaa");
  ASSERT_TRUE(driver().wait_until_held(Op::finish));
  EXPECT_EQ(state(id), "copying");
  ASSERT_EQ(images_->held().size(), 1U);
  EXPECT_EQ(images_->held()[0].image_id, id);
  const ImportSource source = importing_.at("fast")->sources().at(0);
  EXPECT_EQ(source.url, "http://192.0.2.1:9393" + std::string(import_path) + images_->held()[0].name);
  EXPECT_EQ(source.first_bytes, std::string(4096, 'a'));
  EXPECT_EQ(create(wish(id))->outcome, Outcome::hit);
  EXPECT_EQ(run(volumes_->evict(of_image(id))).error().code, Errc::conflict);

  driver().release(Op::finish);
  EXPECT_TRUE(is_over(id));
  EXPECT_EQ(calls(Op::finish), 2U) << "copied, looked at, ended";
  EXPECT_EQ(counters_.volume_imports_started, 1U);
  EXPECT_EQ(counters_.volume_imports_completed, 1U);
  EXPECT_TRUE(run(volumes_->evict(of_image(id))));
}

TEST_F(Import, AReaderThatDoesNotShowForSomeLooksKeepsTheFile) {
  start();
  importing_.at("fast")->read_by_others({true, false, false, false, false, true, false});
  const auto id = image('a');
  ASSERT_TRUE(create(wish(id)));
  EXPECT_TRUE(is_over(id));
  EXPECT_EQ(calls(Op::needs), 11U) << "five looks in a row, after the last that saw him";
}

TEST_F(Import, WhoReadsItCannotBeAskedIsAsGoodAsThatSomebodyDoes) {
  start();
  driver().fail_call(Op::needs, {Errc::unavailable, "the cluster does not answer"}, 5);
  const auto id = image('a');
  ASSERT_TRUE(create(wish(id)));
  EXPECT_TRUE(is_over(id));
  EXPECT_EQ(calls(Op::needs), 10U);
}

TEST_F(Import, TheFileIsKeptForAWhileBeforeTheFirstLookAndAStopDoesNotWaitForThat) {
  options_.import_linger = std::chrono::hours(1);
  start();
  const auto id = image('a');
  ASSERT_TRUE(create(wish(id)));
  EXPECT_TRUE(eventually([&] { return state(id) == "source kept"; }));
  EXPECT_EQ(run(volumes_->evict(of_image(id))).error().code, Errc::conflict);
  stop();
  options_.import_linger = {};
  start();
  EXPECT_TRUE(is_over(id)) << "the next process goes on with it";
}

TEST_F(Import, ARestartInTheMiddleGoesOnWhereItWas) {
  start();
  driver().hold(Op::finish);
  const auto id = image('a');
  const auto made = create(wish(id));
  ASSERT_TRUE(made);
  ASSERT_TRUE(driver().wait_until_held(Op::finish));
  restart();
  EXPECT_TRUE(is_over(id));
  EXPECT_EQ(counters_.volume_imports_completed, 1U);
  EXPECT_EQ(first_bytes(made->volume.id, 4), "aaaa");
  EXPECT_EQ(create(wish(id))->outcome, Outcome::hit);
}

TEST_F(Import, WhatCannotBeImportedIsCopiedAndTheBackendRestsFromImportsForAGrowingTime) {
  start();
  driver().fail_call(Op::prepare, {Errc::unavailable, "rbd_import_url: another server answers there"}, 1, 2);
  const auto made = create(wish(image('a')));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->outcome, Outcome::miss);
  EXPECT_EQ(calls(Op::copy), 1U);
  EXPECT_EQ(counters_.volume_imports_refused, 1U);
  EXPECT_TRUE(images_->held().empty());

  ASSERT_TRUE(create(wish(image('b'))));
  EXPECT_EQ(calls(Op::prepare), 1U) << "not tried at all";
  EXPECT_EQ(counters_.volume_imports_put_off, 1U);

  clock_.advance(seconds(61));
  ASSERT_TRUE(create(wish(image('c'))));
  EXPECT_EQ(calls(Op::prepare), 2U);
  clock_.advance(seconds(61));
  ASSERT_TRUE(create(wish(image('d'))));
  EXPECT_EQ(calls(Op::prepare), 2U) << "the second rest is longer";

  clock_.advance(seconds(60));
  const auto imported = image('e');
  ASSERT_TRUE(create(wish(imported)));
  EXPECT_EQ(counters_.volume_imports_started, 1U);
  EXPECT_TRUE(is_over(imported));
  driver().fail_call(Op::prepare, {Errc::timeout, "no answer"});
  ASSERT_TRUE(create(wish(image('f'))));
  clock_.advance(seconds(61));
  const auto last = image('g');
  ASSERT_TRUE(create(wish(last)));
  EXPECT_EQ(counters_.volume_imports_started, 2U) << "after a success the next rest is a short one again";
  EXPECT_TRUE(is_over(last));
}

TEST_F(Import, AnImageThatReadsAsSomethingElseIsItsOwnFaultAlone) {
  start();
  driver().fail_call(Op::prepare, {Errc::corrupt, "it reads as something else"});
  ASSERT_TRUE(create(wish(image('a'))));
  EXPECT_EQ(counters_.volume_imports_refused, 1U);
  const auto other = image('b');
  ASSERT_TRUE(create(wish(other)));
  EXPECT_EQ(counters_.volume_imports_started, 1U);
  EXPECT_TRUE(is_over(other));
}

TEST_F(Import, AnotherOneHasItsTurnWhenTheFirstDoesNotGetOn) {
  start();
  driver().hold(Op::finish);
  const auto first = image('a'), second = image('b');
  ASSERT_TRUE(create(wish(first)));
  ASSERT_TRUE(driver().wait_until_held(Op::finish));
  ASSERT_TRUE(create(wish(second)));
  driver().fail_call(Op::finish, {Errc::timeout, "rbd: was killed, it did not get on"}, 0);  // the one that is held
  driver().release(Op::finish);
  EXPECT_TRUE(is_over(first));
  EXPECT_TRUE(is_over(second));
  EXPECT_EQ(driver().most_in_flight(Op::finish), 1U);
  EXPECT_EQ(counters_.volume_imports_failed, 1U);
  EXPECT_EQ(counters_.volume_imports_completed, 2U);
}

TEST_F(Import, WhatWouldHoldTooMuchIsCopied) {
  image_options_.max_size_bytes = 1 << 20;
  image_options_.held_percent = 10;
  start();
  driver().hold(Op::finish);
  const auto first = image('a');
  ASSERT_TRUE(create(wish(first)));
  const auto second = create(wish(image('b')));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(calls(Op::copy), 1U);
  EXPECT_EQ(counters_.volume_imports_refused, 1U);
  EXPECT_EQ(images_->held().size(), 1U);
  driver().release(Op::finish);
  EXPECT_TRUE(is_over(first));
  const auto third = image('c');
  ASSERT_TRUE(create(wish(third)));
  EXPECT_EQ(counters_.volume_imports_started, 2U) << "there is room, and no rest was taken";
  EXPECT_TRUE(is_over(third));
}

TEST_F(Import, TheImageMayGoFromTheCacheMeanwhile) {
  start();
  driver().hold(Op::finish);
  const auto id = image('a');
  ASSERT_TRUE(create(wish(id)));
  ASSERT_TRUE(run(images_->remove(id)));
  EXPECT_FALSE(images_->is_cached(id));
  ASSERT_EQ(images_->held().size(), 1U);
  EXPECT_TRUE(images_->open_held(images_->held()[0].name));
  driver().release(Op::finish);
  EXPECT_TRUE(is_over(id));
  EXPECT_EQ(counters_.volume_imports_completed, 1U);
}

TEST_F(Import, NoLimitTakesOneThatIsReadFrom) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  start();
  driver().hold(Op::finish);
  const auto first = image('a'), second = image('b');
  ASSERT_TRUE(create(wish(first)));
  EXPECT_EQ(create(wish(second))->outcome, Outcome::uncached);
  EXPECT_EQ(state(first), "copying");
  driver().release(Op::finish);
  EXPECT_TRUE(is_over(first));
  EXPECT_EQ(create(wish(second))->outcome, Outcome::miss) << "now it goes as any other";
  EXPECT_TRUE(is_over(second));
  EXPECT_EQ(of_image(first), "");
}

TEST_F(Import, NobodyEvictsOneThatIsBeingImportedAndAllMayAfterwards) {
  options_.ttl = seconds(100);
  start();
  driver().hold(Op::finish);
  const auto first = image('a'), second = image('b');
  ASSERT_TRUE(create(wish(first)));
  ASSERT_TRUE(create(wish(second)));
  ASSERT_TRUE(driver().wait_until_held(Op::finish));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", 2}}));
  const auto id = of_image(first);
  EXPECT_EQ(run(volumes_->remove(id)).error().code, Errc::conflict) << "not taken for done";
  EXPECT_EQ(run(volumes_->evict(id)).error().code, Errc::conflict);
  EXPECT_EQ(create(wish(image('c')))->outcome, Outcome::uncached) << "nor for the quota";
  clock_.advance(seconds(200));
  round(&VolumeCache::upkeep);
  round(&VolumeCache::poll);
  origin_.remove(first);
  for (int i = 0; i < 3; ++i) round(&VolumeCache::poll);
  EXPECT_EQ(calls(Op::remove), 0U);
  EXPECT_EQ(row(id)->status, "available");
  EXPECT_EQ(images_->held().size(), 2U);

  driver().release(Op::finish);
  EXPECT_TRUE(is_over(first));
  EXPECT_TRUE(is_over(second));
  round(&VolumeCache::upkeep);
  EXPECT_TRUE(image_volumes().empty());
  EXPECT_EQ(counters_.image_volumes_expired, 2U);
}

TEST_F(Import, ItsVolumesAreWholeThoughItsEvictionWasAskedForInTheMiddle) {
  start();
  driver().hold(Op::finish);
  const auto id = image('a');
  const auto made = create(wish(id));
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_TRUE(driver().wait_until_held(Op::finish));
  const auto image_volume = of_image(id);
  EXPECT_EQ(run(volumes_->evict(image_volume)).error().code, Errc::conflict);
  EXPECT_EQ(create(wish(id))->outcome, Outcome::hit) << "a refused eviction changes nothing";
  driver().release(Op::finish);
  EXPECT_TRUE(is_over(id));
  ASSERT_TRUE(run(volumes_->evict(image_volume)));
  EXPECT_EQ(first_bytes(made->volume.id, 4), "aaaa");
  EXPECT_EQ(on_backend().size(), 2U) << "its two clones";
  EXPECT_EQ(create(wish(id))->outcome, Outcome::miss);
}

TEST_F(Import, WhatIsLeftOfAFailedOneGoesLaterAndItsFileWithIt) {
  start();
  driver().fail_call(Op::seal, {Errc::internal, "no snapshot"});
  driver().fail_call(Op::remove, {Errc::busy, "somebody watches it"}, 1, 2);
  EXPECT_FALSE(create(wish(image('a'))));
  EXPECT_EQ(images_->held().size(), 1U) << "who watches it may read from it";
  EXPECT_TRUE(eventually([&] { return images_->held().empty(); }));
  EXPECT_TRUE(eventually([&] { return on_backend().empty(); }));
  EXPECT_TRUE(image_volumes().empty());
}

TEST_F(Import, OneWhoseFileHasRottenIsNotEndedAndMakesNoMoreVolumes) {
  start();
  driver().hold(Op::finish);
  const auto id = image('a');
  ASSERT_TRUE(create(wish(id)));
  const auto path = held_file();
  struct stat before{};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "b";
  const struct timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  const auto image_volume = of_image(id);
  importing_.at("fast")->read_by_others({true});
  driver().release(Op::finish);
  EXPECT_TRUE(eventually([&] { return counters_.volume_imports_failed == 1; }));
  EXPECT_EQ(calls(Op::finish), 1U) << "copied, and not ended";
  EXPECT_EQ(counters_.volume_imports_completed, 0U);
  EXPECT_TRUE(eventually([&] { return volumes_->import_state(image_volume) == "bad"; }));
}

}  // namespace
}  // namespace imagecache::volume_cache
