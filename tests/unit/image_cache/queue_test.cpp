// What is fetched without a reader, and on whose account.
#include <atomic>
#include <thread>

#include "image_cache/prefetch_queue.hpp"
#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;
using std::chrono::seconds;

Options with_service(Options options = {}) {
  options.service_context = []() -> Result<base::RequestContext> { return caller("service"); };
  return options;
}

/// The first download waits at `offset` until the gate opens, and breaks off there.
std::shared_ptr<Gate> break_off_behind_a_gate(Rig& rig, const std::string& id, std::uint64_t offset) {
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) {
    s.file.gates.push_back({offset, gate});
    s.file.hang_up_at = offset;
    s.file.hang_up_times = 1;
  });
  return gate;
}

TEST(Queue, IsWorkedOffWithTheServicesTokenAndGivesNobodyARight) {
  Rig rig(with_service());
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  rig.origin.answer_token("user", 401);
  ASSERT_TRUE(rig.io->run(rig.cache->queue(id, caller("user"))));
  wait_until([&] { return rig.cache->is_cached(id) && rig.cache->queued().empty(); });
  EXPECT_EQ(rig.origin.last_request("GET", test::file_path(id))->header("x-auth-token"), "service");
  EXPECT_EQ(rig.io->run(rig.cache->open(id, caller("user"))).error().code, Errc::unauthenticated);
  EXPECT_EQ(rig.counters.prefetch_bytes, mib);
  wait_until([&] { return rig.counters.prefetches_completed == 1; });
}

TEST(Queue, MarkersOfAnEarlierProcessAreWorkedOffOldestFirstOneAtATime) {
  Rig rig(with_service());
  std::vector<std::string> ids;
  const auto gate = std::make_shared<Gate>();
  for (std::uint64_t i = 0; i < 3; ++i) {
    ids.push_back(rig.origin.add({.content = Content::generated(mib, 10 + i)}));
    rig.origin.script(ids.back(), [&](ImageScript& s) { s.file.gates.push_back({0, gate}); });
  }
  rig.stop();
  const auto now = std::filesystem::file_time_type::clock::now();
  const std::vector<std::size_t> order = {2, 0, 1};
  for (std::size_t place = 0; place < order.size(); ++place) {
    const auto marker = rig.file("queue/" + ids[order[place]]);
    write_file(marker, "");
    std::filesystem::last_write_time(marker, now - std::chrono::minutes(10) + std::chrono::minutes(place));
  }
  rig.start();
  ASSERT_TRUE(gate->wait_arrived());
  ASSERT_EQ(rig.cache->fills().size(), 1U);
  EXPECT_EQ(rig.cache->fills()[0].image_id, ids[2]);
  EXPECT_EQ(rig.cache->queued(), (std::vector<std::string>{ids[2], ids[0], ids[1]}));
  gate->open();
  wait_until([&] { return rig.cache->queued().empty(); });
  for (const auto& id : ids) EXPECT_TRUE(rig.cache->is_cached(id));
  EXPECT_EQ(rig.origin.max_concurrent(), 1U);
}

TEST(Queue, WhatFailsKeepsItsMarkerHoldsNobodyUpAndIsTriedAgain) {
  Rig rig(with_service({.prefetch_retry_interval = seconds(0)}));
  const auto bad = rig.origin.add({.content = Content::generated(mib, 20)});
  const auto good = rig.origin.add({.content = Content::generated(mib, 21)});
  rig.origin.script(bad, [](ImageScript& s) { s.describe.status = 503; });
  ASSERT_TRUE(rig.io->run(rig.cache->queue(bad, caller("user"))));
  wait_until([&] { return rig.counters.prefetches_failed >= 1; });
  ASSERT_TRUE(rig.io->run(rig.cache->queue(good, caller("user"))));
  // The marker goes a moment after the image has come.
  wait_until([&] { return rig.cache->is_cached(good) && rig.cache->queued() == std::vector<std::string>{bad}; });
  rig.origin.script(bad, [](ImageScript& s) { s.describe.status.reset(); });
  wait_until([&] { return rig.cache->is_cached(bad) && rig.cache->queued().empty(); });
}

TEST(Queue, AnImageThatIsGoneIsTakenOffIt) {
  Rig rig(with_service());
  const std::string id = "0a0a0a0a-0000-4000-8000-000000000001";
  ASSERT_TRUE(rig.io->run(rig.cache->queue(id, caller("user"))));
  wait_until([&] { return rig.counters.prefetches_failed == 1 && rig.cache->queued().empty(); });
}

TEST(Queue, WhatIsTakenOffItIsNotBegunAndWhatRunsWithoutReadersIsStopped) {
  Rig rig(with_service());
  const auto running = rig.origin.add({.content = Content::generated(4 * mib, 30)});
  const auto waiting = rig.origin.add({.content = Content::generated(mib, 31)});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(running, [&](ImageScript& s) { s.file.gates.push_back({2 * mib, gate}); });
  ASSERT_TRUE(rig.io->run(rig.cache->queue(running, caller("user"))));
  ASSERT_TRUE(gate->wait_arrived());
  ASSERT_TRUE(rig.io->run(rig.cache->queue(waiting, caller("user"))));
  ASSERT_TRUE(rig.io->run(rig.cache->unqueue(waiting)));
  ASSERT_TRUE(rig.io->run(rig.cache->unqueue(running)));
  rig.settle();  // though the gate is shut
  gate->open();
  EXPECT_TRUE(rig.cache->queued().empty());
  wait_until([&] { return rig.counters.prefetch_queue_length == 0; });
  EXPECT_EQ(rig.origin.downloads(waiting), 0U);
  EXPECT_FALSE(rig.cache->is_cached(running));
  EXPECT_EQ(rig.counters.prefetches_cancelled, 2U);
}

TEST(Queue, OfACachedImageItIsNothing) {
  Rig rig(with_service());
  const auto id = rig.origin.add({.content = Content::generated(mib, 40)});
  ASSERT_TRUE(rig.get_and_settle(id));
  ASSERT_TRUE(rig.io->run(rig.cache->queue(id, caller("user"))));
  EXPECT_TRUE(rig.cache->queued().empty());
  EXPECT_EQ(rig.counters.prefetches_started, 0U);
}

TEST(PrefetchQueue, WhatIsQueuedWhileTheMarkersAreReadIsNotTakenForGone) {
  PrefetchQueue queue;
  queue.add("gone", 1, {});
  queue.add("again", 2, {});
  const auto additions = queue.additions();
  queue.add("again", 3, {});
  queue.add("new", 4, {});
  queue.merge({}, {}, additions);
  EXPECT_EQ(queue.find("gone"), nullptr);
  EXPECT_NE(queue.find("again"), nullptr);
  EXPECT_NE(queue.find("new"), nullptr);
  queue.merge({}, {}, queue.additions());
  EXPECT_EQ(queue.size(), 0U);
}

TEST(Queue, AnImageThatWasFetchedAndCouldNotBeKeptIsFetchedAgain) {
  Options options = with_service({.prefetch_retry_interval = seconds(0)});
  auto first = std::make_shared<std::atomic<bool>>(true);
  auto incomplete = std::make_shared<std::filesystem::path>();
  options.on_step = [=](std::string_view step, const std::string& image_id) {
    if (step == "publish.begin" && first->exchange(false)) std::filesystem::remove(*incomplete / image_id);
  };
  Rig rig(options);
  *incomplete = rig.file("incomplete");
  const auto id = rig.origin.add({.content = Content::generated(mib, 42)});
  ASSERT_TRUE(rig.io->run(rig.cache->queue(id, caller("user"))));
  wait_until([&] { return rig.counters.prefetches_completed == 1; });
  EXPECT_EQ(rig.counters.prefetches_failed, 1U);
  EXPECT_TRUE(rig.cache->is_cached(id));
  EXPECT_EQ(rig.origin.downloads(id), 2U);
}

TEST(Queue, OneThatCannotBeReadIsNotCalledEmptied) {
  Rig rig;
  std::filesystem::remove(rig.file("queue"));
  write_file(rig.file("queue"), "");
  EXPECT_FALSE(rig.io->run(rig.cache->unqueue_all()));
}

TEST(Queue, AReaderWhoComesAlongEndsTheThrottle) {
  // At this rate the image would take a day.
  Rig rig(with_service({.prefetch_bytes_per_s = 64}));
  const auto content = Content::generated(6 * mib, 41);
  const auto id = rig.origin.add({.content = content});
  ASSERT_TRUE(rig.io->run(rig.cache->queue(id, caller("user"))));
  wait_until([&] { return rig.counters.prefetch_bytes > 0; });
  EXPECT_EQ(rig.get_and_settle(id).value(), content.bytes());
  EXPECT_TRUE(rig.cache->is_cached(id));
}

TEST(Service, AFillOutlivesItsReadersToken) {
  Rig rig(with_service());
  const auto content = Content::generated(6 * mib, 50);
  const auto id = rig.origin.add({.content = content});
  const auto gate = break_off_behind_a_gate(rig, id, 3 * mib);
  auto reader = rig.io->run(rig.cache->open(id, caller("user")));
  ASSERT_TRUE(reader);
  ASSERT_TRUE(gate->wait_arrived());
  rig.origin.answer_token("user", 401);
  gate->open();
  EXPECT_EQ(rig.read(*reader).value(), content.bytes());
  rig.settle();
  EXPECT_TRUE(rig.cache->is_cached(id));
  EXPECT_EQ(rig.origin.body_bytes(id), 6 * mib) << "it went on where it was";
  EXPECT_EQ(rig.io->run(rig.cache->open(id, caller("user"))).error().code, Errc::unauthenticated);
}

TEST(Service, TheNextReadersTokenComesBeforeTheServices) {
  Rig rig(with_service());
  const auto content = Content::generated(6 * mib, 51);
  const auto id = rig.origin.add({.content = content});
  const auto gate = break_off_behind_a_gate(rig, id, 3 * mib);
  auto first = rig.io->run(rig.cache->open(id, caller("one")));
  ASSERT_TRUE(first);
  ASSERT_TRUE(gate->wait_arrived());
  auto second = rig.io->run(rig.cache->open(id, caller("two")));
  ASSERT_TRUE(second);
  rig.origin.answer_token("one", 401);
  gate->open();
  EXPECT_EQ(rig.read(*second).value(), content.bytes());
  EXPECT_EQ(rig.origin.last_request("GET", test::file_path(id))->header("x-auth-token"), "two");
}

TEST(Service, AContentThatChangesBetweenTwoPiecesIsFetchedAnewOnceAndThenGivenUp) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(6 * mib, 52)});
  const auto gate = break_off_behind_a_gate(rig, id, 3 * mib);
  auto reader = rig.open(id);
  ASSERT_TRUE(reader);
  ASSERT_TRUE(gate->wait_arrived());
  const auto other = Content::generated(6 * mib, 53);
  rig.origin.change(id, [&](test::ImageSpec& spec) { spec.content = other; });
  gate->open();
  EXPECT_FALSE(rig.read(*reader)) << "nobody completes a mixture";
  rig.settle();
  EXPECT_FALSE(rig.cache->is_cached(id));
  EXPECT_LE(rig.counters.fills_restarted, 1U);
  EXPECT_EQ(rig.get_and_settle(id).value(), other.bytes());
}

}  // namespace
}  // namespace imagecache::image_cache
