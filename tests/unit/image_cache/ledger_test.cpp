#include "image_cache/ledger.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_dir.hpp"

namespace imagecache::image_cache {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class LedgerTest : public testing::Test {
 protected:
  std::unique_ptr<Ledger> open() { return Ledger::open(directory / "ledger.sqlite").value(); }

  test::TempDir directory;
  const Verified verified{.content_key = "sha512:abc",
                          .stamp = {.inode = 7, .size_bytes = 9, .mtime_ns = 100, .ctime_ns = 200}};
};

TEST_F(LedgerTest, WhatIsRecordedOutlivesARestart) {
  open()->put_verified("a", verified).value();
  const auto ledger = open();
  const auto found = ledger->find_verified("a").value();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->content_key, verified.content_key);
  EXPECT_EQ(found->stamp, verified.stamp);
  EXPECT_FALSE(ledger->find_verified("b").value());
  ledger->drop_verified("a").value();
  EXPECT_FALSE(ledger->find_verified("a").value());
}

TEST_F(LedgerTest, AVerifiedFileIsNoPartAnyMore) {
  const auto ledger = open();
  ledger->begin_partial("a", "k").value();
  ledger->begin_partial("b", "k").value();
  ledger->put_verified("a", verified).value();
  EXPECT_THAT(ledger->partials().value(), ElementsAre(testing::Pair("b", "k")));
}

TEST_F(LedgerTest, PinsAreKeptUntilTheyAreTakenBack) {
  auto ledger = open();
  ledger->pin("b").value();
  ledger->pin("a").value();
  ledger->pin("a").value();
  ledger->drop_verified("a").value();
  ledger.reset();
  ledger = open();
  EXPECT_THAT(ledger->pins().value(), ElementsAre("a", "b"));
  ledger->unpin("a").value();
  ledger->unpin("absent").value();
  ledger->unpin("b").value();
  EXPECT_THAT(ledger->pins().value(), IsEmpty());
}

TEST_F(LedgerTest, AStampMovesOnOnlyFromTheOneThatIsKnown) {
  const auto ledger = open();
  ledger->put_verified("a", verified).value();
  Stamp after = verified.stamp;
  after.ctime_ns = 300;
  Stamp later = after;
  later.ctime_ns = 400;
  ledger
      ->restamp(
          {{.image_id = "a", .before = later, .after = after}, {.image_id = "b", .before = after, .after = later}})
      .value();
  EXPECT_EQ(ledger->find_verified("a").value()->stamp, verified.stamp);
  ledger
      ->restamp({{.image_id = "a", .before = verified.stamp, .after = after},
                 {.image_id = "a", .before = after, .after = later}})
      .value();
  EXPECT_EQ(ledger->find_verified("a").value()->stamp, later);
}

}  // namespace
}  // namespace imagecache::image_cache
