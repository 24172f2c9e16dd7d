// A stream that goes on with a version: If-Range, etags, and checksums that say that the content has changed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "origin/origin.hpp"
#include "raw_server.hpp"

namespace imagecache::origin {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

constexpr const char* image = "0a0a0a0a-0000-4000-8000-000000000001";
constexpr const char* md5 = "900150983cd24fb0d6963f7d28e17f72";  // of "abc"

struct Streamed {
  std::optional<StreamStart> start;
  std::string bytes;
  Result<void> result;
};

class StreamFromTest : public testing::Test {
 protected:
  Streamed stream(const StreamFrom& from) {
    if (!origin_) {
      GlanceOptions options;
      options.urls = {server_.url()};
      options.retry_pause = std::chrono::milliseconds(1);
      origin_ = make_glance_origin(std::move(options)).value();
    }
    Streamed s;
    s.result = origin_->stream(
        image, from, base::internal_context(),
        [&](const StreamStart& start) -> Result<void> {
          s.start = start;
          return {};
        },
        [&](std::span<const std::byte> data) -> Result<void> {
          s.bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
          return {};
        },
        {});
    return s;
  }

  std::string answer_ = answer("200 OK", "", "abc");
  RawServer server_{[this](const std::string&) { return answer_; }};
  std::unique_ptr<Origin> origin_;
};

TEST_F(StreamFromTest, TheStartTellsTheVersion) {
  answer_ = answer("200 OK", std::string("ETag: \"v1\"\r\nContent-MD5: ") + md5 + "\r\n", "abc");
  const auto s = stream({0, {}, md5});
  ASSERT_TRUE(s.result) << s.result.error().message;
  EXPECT_EQ(s.bytes, "abc");
  EXPECT_EQ(s.start->etag, "\"v1\"");
  EXPECT_EQ(s.start->content_md5, md5);
  EXPECT_THAT(server_.heads().at(0), Not(HasSubstr("If-Range")));
}

TEST_F(StreamFromTest, WhatCannotBeComparedIsNotTold) {
  for (const auto* headers :
       {"", "ETag: W/\"v1\"\r\n", "ETag: v1\r\n", "ETag: \"a\x01\"\r\n", "Content-MD5: kAFQmDzST7DWlj99KOF/cg==\r\n"}) {
    answer_ = answer("200 OK", headers, "abc");
    const auto s = stream({0, {}, "00000000000000000000000000000000"});
    ASSERT_TRUE(s.result) << s.result.error().message;
    EXPECT_EQ(s.start->etag, "");
    EXPECT_EQ(s.start->content_md5, "");
  }
}

TEST_F(StreamFromTest, GoesOnWithTheVersionThatItBeganWith) {
  answer_ = answer("206 Partial Content", "Content-Range: bytes 1-2/3\r\nETag: \"v1\"\r\n", "bc");
  const auto s = stream({1, "\"v1\""});
  ASSERT_TRUE(s.result) << s.result.error().message;
  EXPECT_EQ(s.start->offset_bytes, 1U);
  EXPECT_EQ(s.bytes, "bc");
  EXPECT_THAT(server_.heads().at(0), HasSubstr("\r\nRange: bytes=1-\r\nIf-Range: \"v1\"\r\n"));
}

TEST_F(StreamFromTest, BeginsAnewWhereThereIsAnotherVersion) {
  answer_ = answer("200 OK", "ETag: \"v2\"\r\n", "xyz");
  const auto s = stream({1, "\"v1\""});
  ASSERT_TRUE(s.result) << s.result.error().message;
  EXPECT_EQ(s.start->offset_bytes, 0U);
  EXPECT_EQ(s.start->etag, "\"v2\"");
  EXPECT_EQ(s.bytes, "xyz");
}

TEST_F(StreamFromTest, APartOfAnotherVersionIsAConflictBeforeAByte) {
  answer_ = answer("206 Partial Content", "Content-Range: bytes 1-2/3\r\nETag: \"v2\"\r\n", "bc");
  const auto s = stream({1, "\"v1\""});
  ASSERT_FALSE(s.result);
  EXPECT_EQ(s.result.error().code, Errc::conflict);
  EXPECT_THAT(s.result.error().message, HasSubstr("changed meanwhile"));
  EXPECT_FALSE(s.start.has_value());
  EXPECT_EQ(s.bytes, "");
}

TEST_F(StreamFromTest, AnotherChecksumThanTheRecordsIsAConflictBeforeAByte) {
  for (const bool part : {false, true}) {
    const std::string other = std::string("Content-MD5: ") + md5 + "\r\n";
    answer_ = part ? answer("206 Partial Content", "Content-Range: bytes 1-2/3\r\n" + other, "bc")
                   : answer("200 OK", other, "abc");
    const auto s = stream({part ? 1U : 0U, {}, "00000000000000000000000000000000"});
    ASSERT_FALSE(s.result);
    EXPECT_EQ(s.result.error().code, Errc::conflict);
    EXPECT_THAT(s.result.error().message, HasSubstr("changed meanwhile"));
    EXPECT_FALSE(s.start.has_value());
  }
  EXPECT_THAT(server_.heads(), SizeIs(2)) << "asking again would be told the same";
}

TEST_F(StreamFromTest, AChecksumIsComparedWithoutCase) {
  answer_ = answer("200 OK", "Content-MD5: 900150983CD24FB0D6963F7D28E17F72\r\n", "abc");
  EXPECT_TRUE(stream({0, {}, md5}).result);
}

TEST_F(StreamFromTest, AnEtagThatIsNoneIsNotSent) {
  for (const auto* etag : {"v1", "W/\"v1\"", "\"", "\"a\"b\"", "\"a\r\nX-Evil: 1\"", "\"a b\""}) {
    const auto s = stream({1, etag});
    ASSERT_FALSE(s.result);
    EXPECT_EQ(s.result.error().code, Errc::invalid_argument) << etag;
  }
  EXPECT_THAT(server_.heads(), SizeIs(0));
}

TEST_F(StreamFromTest, AfterAReloadConnectionsAreMadeAnew) {
  EXPECT_TRUE(stream({}).result);
  EXPECT_TRUE(stream({}).result);
  EXPECT_EQ(server_.connections(), 1U);
  origin_->reload();
  EXPECT_TRUE(server_.wait_no_open_connection());
  EXPECT_TRUE(stream({}).result);
  EXPECT_TRUE(stream({}).result);
  EXPECT_EQ(server_.connections(), 2U);
}

}  // namespace
}  // namespace imagecache::origin
