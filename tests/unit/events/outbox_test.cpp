// The outbox against a broker that a test holds, breaks and lets go.
#include "events/outbox.hpp"

#include <gmock/gmock.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace imagecache::events {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// True once `condition` holds; false if that took too long. For what only another thread can bring about.
bool eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

/// What a test sees of the broker, and does to it. Outlives the outbox.
struct Stage {
  std::mutex mutex;
  std::condition_variable changed;
  // Protected by mutex.
  bool up = true;
  bool confirms = true;  // else it keeps silent
  bool refuses = false;
  bool stuck = false;   // publish() blocks
  bool breaks = false;  // each connection, at the first publish()
  bool aborted = false;
  bool woken = false;
  unsigned connects = 0, failed_connects = 0;
  std::vector<std::string> arrived;            // over all connections
  std::uint64_t published = 0, confirmed = 0;  // on this connection
  bool broken = false;

  void set(const std::function<void(Stage&)>& change) {
    const std::lock_guard lock(mutex);
    change(*this);
    changed.notify_all();
  }
  template <class T>
  T get(T Stage::* what) {
    const std::lock_guard lock(mutex);
    return this->*what;
  }
  std::vector<std::string> what_arrived() { return get(&Stage::arrived); }
};

class StagedBroker final : public Broker {
 public:
  explicit StagedBroker(Stage& stage) : stage_(stage) {}

  Result<void> connect() override {
    const std::lock_guard lock(stage_.mutex);
    if (!stage_.up) {
      ++stage_.failed_connects;
      return fail(Errc::unavailable, "staged: down");
    }
    ++stage_.connects;
    stage_.published = stage_.confirmed = 0;
    stage_.broken = false;
    return {};
  }
  Result<void> publish(const Message& message) override {
    std::unique_lock lock(stage_.mutex);
    stage_.changed.wait(lock, [&] { return !stage_.stuck || stage_.aborted; });
    stage_.broken |= stage_.breaks;
    if (is_gone()) return fail(Errc::unavailable, "staged: gone");
    stage_.arrived.push_back(message.body);
    ++stage_.published;
    return {};
  }
  Result<std::vector<Confirm>> wait(milliseconds time) override {
    std::unique_lock lock(stage_.mutex);
    const auto news = [&] {
      return is_gone() || std::exchange(stage_.woken, false) ||
             (stage_.confirms && stage_.published > stage_.confirmed);
    };
    stage_.changed.wait_for(lock, time, news);
    if (is_gone()) return fail(Errc::unavailable, "staged: gone");
    std::vector<Confirm> confirms;
    if (stage_.confirms && stage_.published > stage_.confirmed) {
      stage_.confirmed = stage_.published;
      confirms.push_back({.number = stage_.published, .and_all_before = true, .taken = !stage_.refuses});
    }
    return confirms;
  }
  void disconnect() override {}
  void wake() override {
    stage_.set([](Stage& stage) { stage.woken = true; });
  }
  void abort() override {
    stage_.set([](Stage& stage) { stage.aborted = true; });
  }
  std::string name() const override { return "staged"; }

 private:
  bool is_gone() const { return stage_.broken || !stage_.up || stage_.aborted; }
  Stage& stage_;
};

class OutboxTest : public ::testing::Test {
 protected:
  OutboxTest() {
    options_.backoff = {.interval = milliseconds(1), .growth = milliseconds(1), .max = milliseconds(1)};
    options_.flush_timeout = milliseconds(10);  // a test's end waits for nobody
  }
  void start() { outbox_ = std::make_unique<Outbox>(options_, std::make_unique<StagedBroker>(stage_), counters_); }
  void put(const std::string& body) { outbox_->put({{.routing_key = "notifications.info", .body = body}}); }
  bool is_empty() const { return counters_.notifications_waiting == 0; }

  Stage stage_;
  Counters counters_{};
  Outbox::Options options_;
  std::unique_ptr<Outbox> outbox_;
};

TEST_F(OutboxTest, SendsInTheOrderOfPuts) {
  start();
  for (const char* body : {"a", "b", "c"}) put(body);
  ASSERT_TRUE(eventually([&] { return counters_.notifications_sent == 3; }));
  EXPECT_THAT(stage_.what_arrived(), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(is_empty());
  EXPECT_EQ(counters_.notifications_unconfirmed, 0U);
}

TEST_F(OutboxTest, WhatWasPutWhileTheBrokerWasDownIsSentWhenItIsUp) {
  stage_.up = false;
  start();
  for (const char* body : {"a", "b"}) put(body);
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::failed_connects) >= 3; }));
  EXPECT_EQ(counters_.notifications_waiting, 2U);
  stage_.set([](Stage& stage) { stage.up = true; });
  ASSERT_TRUE(eventually([&] { return counters_.notifications_sent == 2; }));
  EXPECT_THAT(stage_.what_arrived(), ElementsAre("a", "b"));
}

TEST_F(OutboxTest, WhatWasNotConfirmedIsSentAgainBeforeWhatCameLater) {
  stage_.confirms = false;
  start();
  for (const char* body : {"a", "b"}) put(body);
  ASSERT_TRUE(eventually([&] { return stage_.what_arrived().size() == 2; }));
  EXPECT_EQ(counters_.notifications_sent, 0U);
  stage_.set([](Stage& stage) {
    stage.up = false;  // it dies with both
    stage.confirms = true;
  });
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::failed_connects) >= 1; }));
  put("c");
  stage_.set([](Stage& stage) { stage.up = true; });
  ASSERT_TRUE(eventually([&] { return counters_.notifications_sent == 3; }));
  EXPECT_THAT(stage_.what_arrived(), ElementsAre("a", "b", "a", "b", "c"));
  EXPECT_EQ(counters_.notifications_unconfirmed, 2U);
  EXPECT_TRUE(is_empty());
}

TEST_F(OutboxTest, BeyondItsLimitTheNewestIsDroppedAndCounted) {
  options_.limit = 3;
  stage_.up = false;
  start();
  for (const char* body : {"a", "b", "c", "d", "e"}) put(body);
  EXPECT_EQ(counters_.notifications_dropped_full, 2U);
  EXPECT_EQ(counters_.notifications_waiting, 3U);
  stage_.set([](Stage& stage) { stage.up = true; });
  ASSERT_TRUE(eventually([&] { return is_empty(); }));
  put("f");
  ASSERT_TRUE(eventually([&] { return counters_.notifications_sent == 4; }));
  EXPECT_THAT(stage_.what_arrived(), ElementsAre("a", "b", "c", "f"));
}

TEST_F(OutboxTest, WhatIsSentAndNotConfirmedCountsAgainstTheLimit) {
  options_.limit = 2;
  stage_.confirms = false;
  start();
  put("a");
  put("b");
  ASSERT_TRUE(eventually([&] { return stage_.what_arrived().size() == 2; }));
  put("c");
  EXPECT_EQ(counters_.notifications_dropped_full, 1U);
}

TEST_F(OutboxTest, AThingOfSeveralMessagesIsTakenWholeOrNotAtAll) {
  options_.limit = 3;
  stage_.up = false;
  start();
  outbox_->put({{.routing_key = "x.info", .body = "1"}, {.routing_key = "y.info", .body = "1"}});
  outbox_->put({{.routing_key = "x.info", .body = "2"}, {.routing_key = "y.info", .body = "2"}});
  EXPECT_EQ(counters_.notifications_waiting, 2U);
  EXPECT_EQ(counters_.notifications_dropped_full, 2U);
}

TEST_F(OutboxTest, APutReturnsWhileTheBrokerIsStuck) {
  stage_.stuck = true;
  start();
  put("a");
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::connects) == 1; }));
  for (int i = 0; i < 100; ++i) put("b");  // the thread stands in publish(): nobody would ever let these go
  EXPECT_EQ(counters_.notifications_waiting, 101U);
  EXPECT_THAT(stage_.what_arrived(), IsEmpty());
  stage_.set([](Stage& stage) { stage.stuck = false; });
  EXPECT_TRUE(eventually([&] { return counters_.notifications_sent == 101; }));
}

TEST_F(OutboxTest, ARefusedOneIsSentAgainInItsPlace) {
  stage_.refuses = true;
  start();
  put("a");
  ASSERT_TRUE(eventually([&] { return counters_.notifications_unconfirmed >= 2; }));
  put("b");
  EXPECT_EQ(counters_.notifications_sent, 0U);
  stage_.set([](Stage& stage) {
    stage.refuses = false;
    stage.arrived.clear();
  });
  ASSERT_TRUE(eventually([&] { return counters_.notifications_sent == 2; }));
  const auto arrived = stage_.what_arrived();
  EXPECT_EQ(arrived.back(), "b");
  EXPECT_EQ(counters_.notifications_dropped_refused, 0U);
}

TEST_F(OutboxTest, ABrokerThatTakesConnectionsAndEndsThemIsAskedEverLessOften) {
  options_.backoff = {.interval = milliseconds(1), .growth = milliseconds(20), .max = seconds(1)};
  stage_.breaks = true;
  const auto began = std::chrono::steady_clock::now();
  start();
  put("a");
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::connects) == 6; }));
  EXPECT_GE(std::chrono::steady_clock::now() - began, milliseconds(1 + 21 + 41 + 61 + 81));
}

TEST_F(OutboxTest, RetryLimitsHowOftenOneIsTried) {
  options_.retry = 2;
  stage_.up = false;
  start();
  put("a");
  ASSERT_TRUE(eventually([&] { return counters_.notifications_dropped_refused == 1; }));
  EXPECT_GE(stage_.get(&Stage::failed_connects), 3U);
  EXPECT_TRUE(is_empty());
  stage_.set([](Stage& stage) { stage.up = true; });
  put("b");
  ASSERT_TRUE(eventually([&] { return counters_.notifications_sent == 1; }));
  EXPECT_THAT(stage_.what_arrived(), ElementsAre("b"));
}

TEST_F(OutboxTest, AStopSendsWhatWaitsAndTakesNoMore) {
  stage_.confirms = false;
  options_.flush_timeout = seconds(30);
  start();
  put("a");
  ASSERT_TRUE(eventually([&] { return stage_.what_arrived().size() == 1; }));
  std::jthread stopping([&] { outbox_->stop(); });
  ASSERT_TRUE(eventually([&] {
    put("late");
    return counters_.notifications_dropped_stop == 1;
  }));
  EXPECT_EQ(counters_.notifications_sent, 0U);
  stage_.set([](Stage& stage) { stage.confirms = true; });
  stopping.join();
  EXPECT_TRUE(is_empty());
  EXPECT_EQ(counters_.notifications_dropped_stop, 1U);
}

TEST_F(OutboxTest, AStopGivesUpInTimeEvenOnABrokerThatIsStuck) {
  stage_.stuck = true;
  options_.flush_timeout = milliseconds(1);
  start();
  put("a");
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::connects) == 1; }));
  outbox_->stop();  // would not return
  EXPECT_TRUE(stage_.get(&Stage::aborted));
  EXPECT_EQ(counters_.notifications_dropped_stop, 1U);
  EXPECT_TRUE(is_empty());
}

TEST_F(OutboxTest, AStopWhileTheBrokerIsDownCountsWhatIsLost) {
  stage_.up = false;
  start();
  put("a");
  put("b");
  outbox_->stop();
  EXPECT_EQ(counters_.notifications_dropped_stop, 2U);
}

}  // namespace
}  // namespace imagecache::events
