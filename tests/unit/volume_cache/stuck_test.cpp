// Image-volumes that could not be deleted: they are cloned no more, take their place and quota until they are gone, and
// are tried again when their content is wanted, when somebody asks for it, and at the next start.
#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

class Stuck : public Rig {
 protected:
  std::set<std::string> kept() {
    std::set<std::string> images;
    for (const auto& image_volume : image_volumes()) images.insert(image_volume.image_id);
    return images;
  }
  std::string image(char letter) { return origin_.add(content(letter)).id; }
  Outcome create_later(const std::string& image_id) {
    clock_.advance(seconds(1));
    const auto created = create(wish(image_id));
    EXPECT_TRUE(created) << created.error().message;
    return created ? created->outcome : Outcome::empty;
  }
  std::string of_image(const std::string& image_id) {
    for (const auto& one : image_volumes()) {
      if (one.image_id == image_id) return one.volume_id;
    }
    return "";
  }
  void fail_removals(unsigned times) { driver().fail_call(Op::remove, {Errc::unavailable, "it is watched"}, 1, times); }
  std::uint64_t in_quota() { return catalog_->quota(internal_project)->at("volumes").in_use; }
};

TEST_F(Stuck, ItTakesItsPlaceInTheLimitsAndIsNoVictimUntilItIsGone) {
  backend_options_["fast"].image_volume_cache_max_count = 2;
  start();
  const auto a = image('a'), b = image('b'), c = image('c');
  ASSERT_EQ(create_later(a), Outcome::miss);
  ASSERT_EQ(create_later(b), Outcome::miss);
  fail_removals(1);
  ASSERT_FALSE(run(volumes_->evict(of_image(a))));
  EXPECT_EQ(create_later(c), Outcome::miss);
  EXPECT_EQ(kept(), (std::set{a, c})) << "b had to go, though a is older";
  EXPECT_EQ(driver().calls(Op::remove), 2U) << "a was not tried again for that";
  ASSERT_TRUE(run(volumes_->evict(of_image(a))));
  EXPECT_EQ(create_later(b), Outcome::miss);
  EXPECT_EQ(kept(), (std::set{b, c})) << "its place is free, and once only";
  EXPECT_EQ(create_later(a), Outcome::miss);
  EXPECT_EQ(kept(), (std::set{a, b}));
}

TEST_F(Stuck, AVictimThatStaysCostsTheNextOneItsPlaceAndTheCountIsRightAfterwards) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  start();
  const auto a = image('a'), b = image('b');
  ASSERT_EQ(create_later(a), Outcome::miss);
  fail_removals(1);
  EXPECT_EQ(create_later(b), Outcome::uncached);
  EXPECT_EQ(row(of_image(a))->status, "error_deleting");
  EXPECT_EQ(create_later(b), Outcome::uncached) << "nothing else may go for it";
  EXPECT_EQ(driver().calls(Op::remove), 1U);
  EXPECT_EQ(create_later(a), Outcome::miss) << "who wants its content has it tried again, and made anew";
  EXPECT_EQ(create_later(b), Outcome::miss);
  EXPECT_EQ(kept(), std::set{b});
  EXPECT_EQ(in_quota(), 1U);
}

TEST_F(Stuck, ItCountsInTheQuotaAndNothingGoesInItsPlaceThatWouldNotBeEnough) {
  start();
  const auto a = image('a'), b = image('b');
  ASSERT_EQ(create_later(a), Outcome::miss);
  fail_removals(1);
  ASSERT_FALSE(run(volumes_->evict(of_image(a))));
  ASSERT_TRUE(catalog_->set_quota(internal_project, {{"volumes", 1}}));
  EXPECT_EQ(create_later(b), Outcome::uncached);
  EXPECT_EQ(driver().calls(Op::remove), 1U);
  EXPECT_EQ(in_quota(), 1U);
}

TEST_F(Stuck, WhileItCannotBeRemovedItsImageIsHadWithoutIt) {
  start();
  const auto a = image('a');
  ASSERT_EQ(create_later(a), Outcome::miss);
  fail_removals(2);
  ASSERT_FALSE(run(volumes_->evict(of_image(a))));
  EXPECT_EQ(create_later(a), Outcome::uncached);
  EXPECT_EQ(driver().calls(Op::clone), 1U) << "of what is half gone nobody gets a clone";
  EXPECT_EQ(create_later(a), Outcome::miss);
  EXPECT_EQ(in_quota(), 1U);
}

TEST_F(Stuck, TwoWhoTryAtOnceDeleteItOnce) {
  start();
  const auto a = image('a');
  ASSERT_EQ(create_later(a), Outcome::miss);
  const auto id = of_image(a);
  driver().hold(Op::remove);
  fail_removals(1);
  auto first = begin(volumes_->evict(id)), second = begin(volumes_->evict(id));
  ASSERT_TRUE(driver().wait_until_held(Op::remove));
  driver().release(Op::remove);
  EXPECT_NE(first.get().has_value(), second.get().has_value()) << "the one fails, the other tries again";
  EXPECT_EQ(driver().calls(Op::remove), 2U);
  EXPECT_EQ(driver().most_in_flight(Op::remove), 1U);
  EXPECT_EQ(counters_.image_volume_evictions, 1U);
  EXPECT_FALSE(row(id));
  EXPECT_EQ(in_quota(), 0U);
}

TEST_F(Stuck, AFailedBuildThatCannotBeRemovedCountsToo) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  start();
  const auto a = image('a'), b = image('b');
  driver().fail_call(Op::seal, {Errc::internal, "input/output error"});
  fail_removals(1);
  EXPECT_FALSE(create(wish(a)));
  EXPECT_EQ(in_quota(), 1U);
  EXPECT_EQ(create_later(b), Outcome::uncached) << "it has the only place";
  EXPECT_EQ(create_later(a), Outcome::miss) << "it was removed first";
  EXPECT_EQ(create_later(b), Outcome::miss);
  EXPECT_EQ(kept(), std::set{b});
  EXPECT_EQ(in_quota(), 1U);
}

TEST_F(Stuck, AStartTriesAgain) {
  backend_options_["fast"].image_volume_cache_max_count = 1;
  start();
  const auto a = image('a'), b = image('b');
  ASSERT_EQ(create_later(a), Outcome::miss);
  const auto id = of_image(a);
  fail_removals(1);
  ASSERT_FALSE(run(volumes_->evict(id)));
  restart();
  EXPECT_FALSE(row(id));
  EXPECT_EQ(in_quota(), 0U);
  EXPECT_EQ(create_later(b), Outcome::miss) << "its place is free";
}

}  // namespace
}  // namespace imagecache::volume_cache
