// What listeners on the message bus are told, and in which order.
#include <gmock/gmock.h>

#include <algorithm>
#include <ranges>

#include "unit/volume_cache/rig.hpp"

namespace imagecache::volume_cache {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Notified : public Rig {
 protected:
  Notified() {
    notifier_.is_on = true;
    options_.host = "host";
  }
  events::Event last(std::string_view type) const {
    for (const auto& event : notifier_.events() | std::views::reverse) {
      if (event.event_type == type) return event;
    }
    ADD_FAILURE() << "no " << type;
    return {};
  }
};

TEST_F(Notified, AColdCreateAndAWarmOne) {
  start();
  const auto image = origin_.add(content('a'));
  const auto cold = create(wish(image.id));
  ASSERT_TRUE(cold) << cold.error().message;
  EXPECT_THAT(notifier_.types(), ElementsAre("volume.create.start", "image_volume_cache.miss",
                                             "volume.create.start",  // the image-volume's
                                             "volume.create.end", "volume.create.end"));
  const auto miss = last("image_volume_cache.miss");
  EXPECT_EQ(miss.publisher_id, "volume.host");
  EXPECT_THAT(miss.payload, HasSubstr(R"("image_id":")" + image.id + R"(","host":"host@fast#fast-pool")"));
  EXPECT_EQ(miss.context.project_id, user_project);
  const auto end = last("volume.create.end");
  EXPECT_EQ(end.publisher_id, "volume.host@fast#fast-pool");
  EXPECT_THAT(end.payload, HasSubstr(R"("tenant_id":")" + std::string(user_project)));
  EXPECT_THAT(end.payload, HasSubstr(R"("status":"available")"));
  const auto image_volume = notifier_.events()[3];
  EXPECT_THAT(image_volume.payload, HasSubstr(R"("tenant_id":")" + std::string(internal_project)));

  const auto before = notifier_.types().size();
  ASSERT_TRUE(create(wish(image.id)));
  auto types = notifier_.types();
  types.erase(types.begin(), types.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_THAT(types, ElementsAre("volume.create.start", "image_volume_cache.hit", "volume.create.end"));
  EXPECT_THAT(last("image_volume_cache.hit").payload, HasSubstr(image_volumes().at(0).volume_id));
}

TEST_F(Notified, WhoWaitsForABuildHasMissedToo) {
  start();
  const auto image = origin_.add(content('a'));
  driver().hold(Op::copy);
  auto first = begin_create(wish(image.id));
  ASSERT_TRUE(driver().wait_until_held(Op::copy));
  auto second = begin_create(wish(image.id));
  ASSERT_TRUE(eventually([&] { return counters_.volume_collapsed == 1; }));
  driver().release(Op::copy);
  ASSERT_TRUE(first.get());
  ASSERT_TRUE(second.get());
  EXPECT_THAT(last("image_volume_cache.miss").payload, HasSubstr(R"("result":"collapsed")"));
  EXPECT_EQ(std::ranges::count(notifier_.types(), "image_volume_cache.miss"), 2);
  EXPECT_EQ(std::ranges::count(notifier_.types(), "image_volume_cache.hit"), 0);
}

TEST_F(Notified, AFailedCreateHasAStartAndNoEndAsWithCinder) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  const auto before = notifier_.types().size();
  driver().fail_call(Op::clone, {Errc::internal, "broken"});
  ASSERT_FALSE(create(wish(image.id)));
  auto types = notifier_.types();
  types.erase(types.begin(), types.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_THAT(types, ElementsAre("volume.create.start", "image_volume_cache.hit"));
}

TEST_F(Notified, VolumesThatCinderCountsAreCindersToTell) {
  start();
  const auto image = origin_.add(content('a'));
  auto request = wish(image.id);
  request.counts_quota = false;
  ASSERT_TRUE(create(request));
  EXPECT_THAT(notifier_.types(), ElementsAre("image_volume_cache.miss", "volume.create.start", "volume.create.end"));
  EXPECT_THAT(last("volume.create.end").payload, HasSubstr(internal_project));
}

TEST_F(Notified, AnEvictionSaysWhy) {
  start();
  const auto image = origin_.add(content('a'));
  ASSERT_TRUE(create(wish(image.id)));
  const auto before = notifier_.types().size();
  ASSERT_TRUE(run(volumes_->evict(image_volumes().at(0).volume_id)));
  auto types = notifier_.types();
  types.erase(types.begin(), types.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_THAT(types, ElementsAre("volume.delete.start", "image_volume_cache.evict", "volume.delete.end"));
  const auto evict = last("image_volume_cache.evict");
  EXPECT_EQ(evict.publisher_id, "volume.host");
  EXPECT_THAT(evict.payload, HasSubstr(image.id));
  EXPECT_THAT(evict.payload, HasSubstr(R"("reason":"it was asked for")"));
  EXPECT_EQ(last("volume.delete.end").publisher_id, "volume.host@fast");
}

TEST_F(Notified, ExtendAndRemoval) {
  start();
  const auto created = create(wish("", 1, "fast"));
  ASSERT_TRUE(created);
  ASSERT_TRUE(run(volumes_->extend(created->volume.id, 2)));
  ASSERT_TRUE(run(volumes_->remove(created->volume.id)));
  ASSERT_TRUE(eventually([&] { return counters_.volumes_deleted == 1 && notifier_.types().size() == 6; }));
  EXPECT_THAT(notifier_.types(), ElementsAre("volume.create.start", "volume.create.end", "volume.resize.start",
                                             "volume.resize.end", "volume.delete.start", "volume.delete.end"));
  EXPECT_THAT(last("volume.resize.start").payload, HasSubstr(R"("size":1,)"));
  EXPECT_THAT(last("volume.resize.end").payload, HasSubstr(R"("size":2,)"));
  EXPECT_THAT(last("volume.delete.end").payload, HasSubstr(R"("status":"deleted")"));
}

TEST_F(Notified, NobodyListensAndNothingIsSaid) {
  notifier_.is_on = false;
  start();
  ASSERT_TRUE(create(wish(origin_.add(content('a')).id)));
  EXPECT_THAT(notifier_.types(), IsEmpty());
}

}  // namespace
}  // namespace imagecache::volume_cache
