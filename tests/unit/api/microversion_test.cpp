#include "api/microversion.hpp"

#include <gtest/gtest.h>

namespace imagecache::api {
namespace {

TEST(Microversion, NoHeaderIsTheOldest) {
  const auto asked = negotiate_version("");
  EXPECT_EQ(asked.problem, VersionProblem::none);
  EXPECT_EQ(asked.version, oldest_version);
}

TEST(Microversion, IsReadFromItsServiceAmongOthers) {
  EXPECT_EQ(negotiate_version("compute 2.90, volume 3.27").version, (Microversion{3, 27}));
  EXPECT_EQ(negotiate_version("Volume 3.9").version, (Microversion{3, 9}));
  EXPECT_EQ(negotiate_version("compute 2.90").version, oldest_version);
}

TEST(Microversion, LatestIsTheNewest) {
  EXPECT_EQ(negotiate_version("volume latest").version, newest_version);
}

TEST(Microversion, CountsItsMinorAsANumber) {
  EXPECT_LT((Microversion{3, 9}), (Microversion{3, 10}));
}

TEST(Microversion, OutOfRangeSaysTheRange) {
  for (const char* header : {"volume 3.999", "volume 2.0", "volume 4.0"}) {
    const auto asked = negotiate_version(header);
    EXPECT_EQ(asked.problem, VersionProblem::out_of_range) << header;
    EXPECT_NE(asked.message.find("Minimum is 3.0 and maximum is " + newest_version.text()), std::string::npos);
  }
}

TEST(Microversion, NonsenseIsMalformed) {
  for (const char* header :
       {"volume 3", "volume x.y", "volume 3.-1", "volume 3.99999999999999999999", "volume 3.1.2"}) {
    EXPECT_EQ(negotiate_version(header).problem, VersionProblem::malformed) << header;
  }
}

}  // namespace
}  // namespace imagecache::api
