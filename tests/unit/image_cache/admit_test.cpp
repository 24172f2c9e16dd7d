// Nobody is given a byte without the origin's yes to both questions; and what that costs.
#include <thread>

#include "image_cache/admissions.hpp"
#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;
using std::chrono::seconds;

Result<Admission> admit(Rig& rig, const std::string& id, const std::string& token) {
  return rig.io->run(rig.cache->admit(id, caller(token)));
}

TEST(Admit, WhoMaySeeButNotDownloadIsDeniedOnAHitToo) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  ASSERT_TRUE(rig.get_and_settle(id));
  rig.origin.script(id, [](ImageScript& s) { s.file.tokens = {{"reader", 403}}; });
  const auto refused = rig.io->run(rig.cache->open(id, caller("reader")));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_TRUE(rig.io->run(rig.cache->open(id, caller("member"))));
  EXPECT_EQ(rig.origin.downloads(id), 1U);
  EXPECT_EQ(rig.origin.authorizations(id), 3U);
  EXPECT_EQ(rig.counters.authorizations_denied, 1U);
}

TEST(Admit, WhoMayNotSeeIsToldSoWhateverTheBytesSay) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  rig.origin.script(id, [](ImageScript& s) {
    s.describe.tokens = {{"stranger", 404}};
    s.file.tokens = {{"stranger", 403}};
  });
  EXPECT_EQ(admit(rig, id, "stranger").error().code, Errc::not_found);
}

TEST(Admit, ANoCountsMoreThanAnOriginThatIsAway) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  rig.origin.script(id, [](ImageScript& s) {
    s.describe.status = 503;
    s.file.tokens = {{"reader", 403}};
  });
  EXPECT_EQ(admit(rig, id, "reader").error().code, Errc::forbidden);
  EXPECT_EQ(admit(rig, id, "member").error().code, Errc::unavailable);
}

TEST(Admit, BothQuestionsAreUnderWayAtOnce) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  const auto described = std::make_shared<Gate>();
  const auto authorized = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) {
    s.describe.hold_head = described;
    s.file.hold_authorization = authorized;
  });
  std::jthread asker([&] { EXPECT_TRUE(admit(rig, id, "t")); });
  EXPECT_TRUE(described->wait_arrived());
  EXPECT_TRUE(authorized->wait_arrived());
  authorized->open();
  described->open();
}

TEST(Admit, AHerdWithOneTokenAsksOnceAndOtherTokensForThemselves) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.hold_authorization = gate; });
  std::vector<std::jthread> askers;
  for (int i = 0; i < 32; ++i) askers.emplace_back([&] { EXPECT_TRUE(admit(rig, id, "one")); });
  for (int i = 0; i < 8; ++i) askers.emplace_back([&] { EXPECT_TRUE(admit(rig, id, "two")); });
  while (rig.counters.authorizations_asked + rig.counters.authorizations_joined < 40) std::this_thread::yield();
  ASSERT_TRUE(gate->wait_arrived(2));
  gate->open();
  askers.clear();
  EXPECT_EQ(rig.origin.describes(id), 2U);
  EXPECT_EQ(rig.origin.authorizations(id), 2U);
  EXPECT_EQ(rig.counters.authorizations_asked, 2U);
  EXPECT_EQ(rig.counters.authorizations_joined, 38U);
  // What was asked then is no answer now.
  EXPECT_TRUE(admit(rig, id, "one"));
  EXPECT_EQ(rig.origin.authorizations(id), 3U);
}

TEST(Admit, ADenialIsForThatTokenAlone) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) {
    s.describe.hold_head = gate;
    s.file.tokens = {{"reader", 403}};
  });
  std::jthread denied([&] { EXPECT_EQ(admit(rig, id, "reader").error().code, Errc::forbidden); });
  std::jthread allowed([&] { EXPECT_TRUE(admit(rig, id, "member")); });
  ASSERT_TRUE(gate->wait_arrived(2));
  gate->open();
}

base::Task<void> ask_and_note(ImageCache& cache, std::string id, std::atomic<int>& answered) {
  if (co_await cache.admit(std::move(id), caller("one"))) ++answered;
}

TEST(Admit, WhoeverAskedFirstMayLeaveAndTheOthersAreAnswered) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  const auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.describe.hold_head = gate; });
  std::atomic<int> answered = 0;
  // A leader whose loop ends under it.
  base::TaskGroup group;
  {
    base::asio::io_context gone;
    group.spawn(gone.get_executor(), ask_and_note(*rig.cache, id, answered));
    while (!rig.counters.authorizations_asked) gone.run_one();
    ASSERT_TRUE(gate->wait_arrived());
    std::jthread joiner([&] { EXPECT_TRUE(admit(rig, id, "one")); });
    while (!rig.counters.authorizations_joined) std::this_thread::yield();
    gate->open();
    joiner.join();
  }
  EXPECT_EQ(answered, 0);
  EXPECT_EQ(rig.origin.describes(id), 1U);
}

TEST(Admit, AYesIsRememberedWhereThatIsWantedAndANoNever) {
  Rig rig({.authorization_memory = std::chrono::hours(1)});
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  ASSERT_TRUE(admit(rig, id, "one"));
  ASSERT_TRUE(admit(rig, id, "one"));
  EXPECT_EQ(rig.origin.authorizations(id), 1U);
  EXPECT_EQ(rig.counters.authorizations_remembered, 1U);
  ASSERT_TRUE(admit(rig, id, "two"));
  EXPECT_EQ(rig.origin.authorizations(id), 2U) << "another token is another question";

  rig.origin.answer_token("three", 401);
  EXPECT_FALSE(admit(rig, id, "three"));
  rig.origin.answer_token("three", 0);
  EXPECT_TRUE(admit(rig, id, "three"));
}

TEST(Admit, WithoutAMemoryEachReadAsks) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(admit(rig, id, "one"));
  EXPECT_EQ(rig.origin.authorizations(id), 3U);
  EXPECT_EQ(rig.origin.describes(id), 3U);
}

TEST(Admit, WhatIsRemovedOrChangedThroughUsIsAskedAnew) {
  Rig rig({.authorization_memory = std::chrono::hours(1)});
  const auto id = rig.origin.add({.content = Content::generated(mib, 1)});
  ASSERT_TRUE(admit(rig, id, "one"));
  ASSERT_TRUE(rig.io->run(rig.cache->remove(id)));
  rig.origin.script(id, [](ImageScript& s) { s.file.tokens = {{"one", 403}}; });
  EXPECT_FALSE(admit(rig, id, "one"));
  rig.origin.script(id, [](ImageScript& s) { s.file.tokens.clear(); });
  ASSERT_TRUE(admit(rig, id, "one"));
  rig.cache->forget_admissions(id);
  rig.origin.change(id, [](test::ImageSpec& spec) { spec.status = "deactivated"; });
  EXPECT_EQ(admit(rig, id, "one").error().code, Errc::forbidden);
}

// The memory by itself.

using Time = Admissions::Time;
origin::ImageInfo active(const std::string& id) {
  origin::ImageInfo info;
  info.id = id;
  info.status = "active";
  return info;
}
void say_yes(Admissions& admissions, const std::string& image, const std::string& who, Time now) {
  const auto begun = admissions.begin({.image_id = image, .caller = who}, now);
  ASSERT_TRUE(begun.is_first);
  admissions.described(begun.question, active(image));
  admissions.authorized(begun.question, {});
}

TEST(Admissions, AYesEndsWithItsTimeCountedFromTheQuestion) {
  Admissions admissions(seconds(10), 4);
  const Time start{};
  say_yes(admissions, "a", "me", start);
  const auto known = admissions.begin({.image_id = "a", .caller = "me"}, start + seconds(9));
  ASSERT_TRUE(known.remembered);
  EXPECT_EQ(known.remembered->age, seconds(9));
  EXPECT_FALSE(admissions.begin({.image_id = "a", .caller = "me"}, start + seconds(10)).remembered);
}

TEST(Admissions, TheOneUsedLeastRecentlyGoesAndTheBoundHolds) {
  Admissions admissions(seconds(10), 2);
  const Time now{};
  say_yes(admissions, "a", "me", now);
  say_yes(admissions, "b", "me", now);
  EXPECT_TRUE(admissions.begin({.image_id = "a", .caller = "me"}, now).remembered);
  say_yes(admissions, "c", "me", now);
  EXPECT_EQ(admissions.remembered(), 2U);
  EXPECT_TRUE(admissions.begin({.image_id = "a", .caller = "me"}, now).remembered);
  EXPECT_FALSE(admissions.begin({.image_id = "b", .caller = "me"}, now).remembered);
}

TEST(Admissions, AYesToAQuestionThatWasAskedBeforeItWasForgottenIsNotRemembered) {
  Admissions admissions(seconds(10), 4);
  const Time now{};
  const auto before = admissions.begin({.image_id = "a", .caller = "me"}, now);
  admissions.forget("a");
  const auto after = admissions.begin({.image_id = "a", .caller = "me"}, now);
  EXPECT_TRUE(after.is_first) << "an old question answers nobody who asks now";
  admissions.described(before.question, active("a"));
  admissions.authorized(before.question, {});
  EXPECT_EQ(admissions.remembered(), 0U);
  EXPECT_TRUE(*admissions.answer(*before.question)) << "who asked before is still answered";
  EXPECT_FALSE(admissions.begin({.image_id = "a", .caller = "me"}, now).is_first);
  admissions.described(after.question, active("a"));
  admissions.authorized(after.question, {});
  EXPECT_EQ(admissions.remembered(), 1U);
}

TEST(Admissions, ForgettingOneImageLeavesTheOthers) {
  Admissions admissions(seconds(10), 8);
  for (const auto* id : {"a", "aa", "b"}) {
    say_yes(admissions, id, "me", Time());
    say_yes(admissions, id, "you", Time());
  }
  admissions.forget("a");
  EXPECT_EQ(admissions.remembered(), 4U);
  admissions.forget_all();
  EXPECT_EQ(admissions.remembered(), 0U);
}

TEST(Admissions, AnImageOnItsWayIsNotRemembered) {
  Admissions admissions(seconds(10), 8);
  const auto begun = admissions.begin({.image_id = "a", .caller = "me"}, Time());
  auto info = active("a");
  info.status = "queued";
  admissions.described(begun.question, info);
  admissions.authorized(begun.question, {});
  EXPECT_EQ(admissions.remembered(), 0U);
}

TEST(Admissions, CallersAreToldApartAndTheirTokensNotKept) {
  const auto one = Admissions::caller_of(caller("secret")).value();
  EXPECT_EQ(one, Admissions::caller_of(caller("secret")).value()) << "whatever the request id";
  auto with_service = caller("secret");
  with_service.service_token = "a-service";
  EXPECT_NE(one, Admissions::caller_of(with_service).value()) << "an expired token is good with it and not without";
  EXPECT_NE(one, Admissions::caller_of(caller("secret2")).value());
  EXPECT_EQ(one.find("secret"), std::string::npos);
  auto shifted = caller("");
  shifted.user_id = "secret";
  EXPECT_NE(one, Admissions::caller_of(shifted).value());
}

}  // namespace
}  // namespace imagecache::image_cache
