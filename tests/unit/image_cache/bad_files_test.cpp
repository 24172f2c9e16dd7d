// A file in the cache directory that is not what it should be, whole, in ranges, and while somebody reads it.
#include <sys/stat.h>

#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;

class BadFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    id_ = rig_.origin.add({.content = content_});
    ASSERT_TRUE(rig_.get_and_settle(id_));
    reader_.emplace(rig_.open(id_).value());
    ASSERT_EQ(reader_->outcome(), Outcome::hit);
    ASSERT_EQ(read(mib), content_.bytes(0, mib));
  }
  /// What the reader that was there before gets of the file's first bytes.
  std::string read(std::uint64_t bytes, std::uint64_t offset = 0) {
    std::string part(bytes, '\0');
    const auto n = base::read_at(reader_->fd(), std::as_writable_bytes(std::span(part)), offset, "test");
    part.resize(n.value_or(0));
    return part;
  }
  void expect_fetched_again() {
    EXPECT_EQ(rig_.get_and_settle(id_).value_or(""), content_.bytes());
    EXPECT_EQ(rig_.origin.downloads(id_), 2U);
    auto again = rig_.open(id_);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->outcome(), Outcome::hit);
    EXPECT_EQ(rig_.read(*again).value_or(""), content_.bytes());
    EXPECT_EQ(rig_.origin.downloads(id_), 2U);
    EXPECT_EQ(rig_.cache->size_bytes(), 4 * mib);
  }
  std::filesystem::path file() const { return rig_.file(id_); }

  Rig rig_;
  const Content content_ = Content::generated(4 * mib, 1);
  std::string id_;
  std::optional<Reader> reader_;
};

TEST_F(BadFiles, AVanishedOneIsReadToItsEndAndFetchedAgain) {
  std::filesystem::remove(file());
  EXPECT_EQ(read(4 * mib), content_.bytes());
  expect_fetched_again();
}

TEST_F(BadFiles, AReplacedOneIsReadToItsEndAndTheForeignOneIsNotServed) {
  write_file(rig_.directory / "foreign", std::string(4 * mib, 'x'));
  std::filesystem::rename(rig_.directory / "foreign", file());
  EXPECT_EQ(read(4 * mib), content_.bytes()) << "the descriptor is the pin";
  expect_fetched_again();
  EXPECT_TRUE(std::filesystem::exists(rig_.file("invalid/" + id_)));
}

TEST_F(BadFiles, AReplacedOneWithTheRightContentIsServed) {
  write_file(rig_.directory / "restored", content_.bytes());
  std::filesystem::rename(rig_.directory / "restored", file());
  EXPECT_EQ(rig_.get(id_).value_or(""), content_.bytes());
  EXPECT_EQ(rig_.origin.downloads(id_), 1U);
}

TEST_F(BadFiles, ATruncatedOneEndsForWhoReadsItAndIsFetchedAgain) {
  ASSERT_EQ(::truncate(file().c_str(), mib), 0);
  EXPECT_EQ(read(mib, 2 * mib), "") << "no byte that is not the image's";
  expect_fetched_again();
  EXPECT_TRUE(std::filesystem::exists(rig_.file("invalid/" + id_)));
}

TEST_F(BadFiles, AGrownOneIsFetchedAgain) {
  std::filesystem::resize_file(file(), 5 * mib);
  expect_fetched_again();
}

TEST_F(BadFiles, AnOverwrittenOneIsFetchedAgainThoughItsSizeAndTimeAreAsBefore) {
  const auto time = std::filesystem::last_write_time(file());
  std::string wrong = content_.bytes();
  wrong[3 * mib] = static_cast<char>(wrong[3 * mib] ^ 1);
  std::fstream(file(), std::ios::in | std::ios::out | std::ios::binary) << wrong;
  std::filesystem::last_write_time(file(), time);
  expect_fetched_again();
}

TEST_F(BadFiles, AFolderInItsPlaceIsMovedAsideAndTheImageFetchedAgain) {
  std::filesystem::remove(file());
  std::filesystem::create_directory(file());
  write_file(file() / "inside", "somebody's");
  expect_fetched_again();
  EXPECT_EQ(read_file(rig_.file("invalid/" + id_) / "inside"), "somebody's");
}

TEST_F(BadFiles, ALinkInItsPlaceIsNotFollowed) {
  write_file(rig_.directory / "elsewhere", content_.bytes());
  std::filesystem::remove(file());
  std::filesystem::create_symlink(rig_.directory / "elsewhere", file());
  expect_fetched_again();
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(file())));
  EXPECT_EQ(read_file(rig_.directory / "elsewhere"), content_.bytes()) << "not ours to touch";
}

TEST_F(BadFiles, APipeInItsPlaceHoldsNobodyUp) {
  std::filesystem::remove(file());
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  expect_fetched_again();
}

TEST_F(BadFiles, OneThatCouldNotBeReadIsVerifiedBeforeItsNextUse) {
  rig_.cache->doubt(id_);
  EXPECT_EQ(rig_.get(id_).value_or(""), content_.bytes());
  EXPECT_EQ(rig_.origin.downloads(id_), 1U);
  // What the ledger said of it before is no proof any more, over a restart either.
  rig_.restart();
  EXPECT_EQ(rig_.get(id_).value_or(""), content_.bytes());
}

TEST_F(BadFiles, WhatIsMovedAsideTwiceTakesNoPlaceFromAnother) {
  std::filesystem::create_directory(rig_.file("invalid/" + id_));
  write_file(file(), std::string(4 * mib, 'x'));
  expect_fetched_again();
}

}  // namespace
}  // namespace imagecache::image_cache
