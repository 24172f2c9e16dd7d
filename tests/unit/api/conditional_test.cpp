#include "api/conditional.hpp"

#include <gtest/gtest.h>

namespace imagecache::api {
namespace {

Precondition check(std::vector<http::Header> headers, std::string_view tag = "\"a\"") {
  return check_preconditions(headers, tag);
}

TEST(EntityTag, IsTheStrongestHashThereIs) {
  EXPECT_EQ(entity_tag({.checksum = "md5", .os_hash_value = "sha"}), "\"sha\"");
  EXPECT_EQ(entity_tag({.checksum = "md5"}), "\"md5\"");
  EXPECT_EQ(entity_tag({}), "");
  EXPECT_EQ(entity_tag({.os_hash_value = "a\"b"}), "");
  EXPECT_EQ(entity_tag({.os_hash_value = "a\r\nX: y"}), "");
}

TEST(Conditional, NothingAskedIsNothingRefused) {
  EXPECT_EQ(check({}), Precondition::none);
  EXPECT_EQ(check({{"If-Modified-Since", "Sun, 22 Nov 2026 21:33:03 GMT"}}), Precondition::none);
}

TEST(Conditional, WhoHasItIsNotSentItAgain) {
  for (const auto* list : {"\"a\"", "W/\"a\"", "\"b\", \"a\"", "*", " * ", "\"b\",W/\"a\""}) {
    EXPECT_EQ(check({{"If-None-Match", list}}), Precondition::not_modified) << list;
  }
  for (const auto* list : {"\"b\"", "a", "", "\"a", "W/a", "\"b\" x \"a\""}) {
    EXPECT_EQ(check({{"If-None-Match", list}}), Precondition::none) << list;
  }
  EXPECT_EQ(check({{"If-None-Match", "\"b\""}, {"if-none-match", "\"a\""}}), Precondition::not_modified);
  EXPECT_EQ(check({{"If-None-Match", "\"\""}}, ""), Precondition::none);
}

TEST(Conditional, WhoWantsAnotherIsSentNone) {
  EXPECT_EQ(check({{"If-Match", "\"b\""}}), Precondition::failed);
  EXPECT_EQ(check({{"If-Match", "W/\"a\""}}), Precondition::failed);
  EXPECT_EQ(check({{"If-Match", "\"b\", \"a\""}}), Precondition::none);
  EXPECT_EQ(check({{"If-Match", "*"}}, ""), Precondition::none);
  EXPECT_EQ(check({{"If-Match", "\"a\""}}, ""), Precondition::failed);
  EXPECT_EQ(check({{"If-Match", "\"b\""}, {"If-None-Match", "\"a\""}}), Precondition::failed);
}

TEST(Conditional, APartIsSentOnlyOfWhatTheClientHasTheOtherPartsOf) {
  EXPECT_TRUE(range_holds("", "\"a\""));
  EXPECT_TRUE(range_holds(" \"a\"", "\"a\""));
  EXPECT_FALSE(range_holds("W/\"a\"", "\"a\""));
  EXPECT_FALSE(range_holds("\"b\"", "\"a\""));
  EXPECT_FALSE(range_holds("Sun, 22 Nov 2026 21:33:03 GMT", "\"a\""));
  EXPECT_FALSE(range_holds("\"a\"", ""));
}

}  // namespace
}  // namespace imagecache::api
