#include "api/byte_range.hpp"

#include <gtest/gtest.h>

namespace imagecache::api {
namespace {

TEST(ByteRange, OneRangeWithinTheImage) {
  const auto one = [](std::string_view header) { return parse_range(header, 1000); };
  EXPECT_EQ(one("bytes=0-0").range.last, 0U);
  EXPECT_EQ(one("bytes=10-").range.first, 10U);
  EXPECT_EQ(one("bytes=10-").range.last, 999U);
  EXPECT_EQ(one("bytes=-1").range.first, 999U);
  EXPECT_EQ(one("bytes=-5000").range.first, 0U);
  EXPECT_EQ(one("bytes=990-5000").range.last, 999U);
  EXPECT_EQ(one("").kind, RangeKind::none);
}

TEST(ByteRange, WhatCannotBeServedIsToldApart) {
  EXPECT_EQ(parse_range("bytes=1000-", 1000).kind, RangeKind::unsatisfiable);
  EXPECT_EQ(parse_range("bytes=-0", 1000).kind, RangeKind::unsatisfiable);
  EXPECT_EQ(parse_range("bytes=0-", 0).kind, RangeKind::unsatisfiable);
  for (const auto* other : {"bytes=0-1,4-5", "foo=3-5", "bytes=5-3", "bytes=a-b", "bytes=-", "bytes=1", "bytes=+1-2",
                            "bytes=99999999999999999999-"}) {
    EXPECT_EQ(parse_range(other, 1000).kind, RangeKind::other) << other;
  }
}

}  // namespace
}  // namespace imagecache::api
