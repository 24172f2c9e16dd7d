#include "http/head.hpp"

#include <gtest/gtest.h>

#include "http/router.hpp"

namespace imagecache::http {
namespace {

TEST(Head, CarriesFramingOfOursAndNotOfTheHandlers) {
  const Response response{
      .status = 206,
      .headers = {{"Content-Length", "7"}, {"Transfer-Encoding", "chunked"}, {"X-A", "b"}, {"Date", "d"}}};
  EXPECT_EQ(
      serialize_head(response, {.content_length = 12}),
      "HTTP/1.1 206 Partial Content\r\nX-A: b\r\nDate: d\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n");
}

TEST(Head, AValueWithALineBreakIsLeftOut) {
  const Response response{.headers = {{"X-Evil", "a\r\nSet-Cookie: b"}, {"X-Bad\r\nName", "c"}, {"Date", "d"}}};
  const std::string head = serialize_head(response, {.framing = Framing::none, .keep_alive = false});
  EXPECT_EQ(head, "HTTP/1.1 200 OK\r\nDate: d\r\nConnection: close\r\n\r\n");
}

TEST(Head, ANameIsDisguisedIfAnUnderscoreHidesWhatItSays) {
  for (const char* name : {"Transfer_Encoding", "content_length", "KEEP_ALIVE", "Proxy-Authenticate", "Expect"}) {
    EXPECT_EQ(is_disguised(name), std::string_view(name).contains('_')) << name;
  }
  for (const char* name : {"X_Anything", "_", "", "_Host"}) EXPECT_FALSE(is_disguised(name)) << name;
}

TEST(Path, ClimbsHoweverItIsWritten) {
  for (const char* path : {"/a/../b", "/..", "/a/%2e%2E/b", "/a/.%2e", "/a%2f..%2fb", "/a\\b", "/a%5cb", "/a/..?x"}) {
    EXPECT_TRUE(climbs(path)) << path;
  }
  for (const char* path : {"/a/b", "/a..b/c", "/a/...", "/%61", "/a?x=/../y", "/", "", "/a/%2", "/a/."}) {
    EXPECT_FALSE(climbs(path)) << path;
  }
}

TEST(Url, IsTakenApart) {
  const auto url = parse_url("https://[::1]:9292/image/").value();
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, "9292");
  EXPECT_EQ(url.authority, "[::1]:9292");
  EXPECT_EQ(url.path, "/image");
  EXPECT_EQ(parse_url("http://glance").value().port, "80");
  for (const auto* bad : {"ftp://x", "http://", "http://x:port", "http://x:65536", "http://[::1", "glance:9292"}) {
    EXPECT_FALSE(parse_url(bad)) << bad;
  }
}

TEST(Query, IsDecodedAndTheLastOfANameWins) {
  const auto query = parse_query("a=1&b=x%20y+z&a=2&c&%41=%zz");
  EXPECT_EQ(query.at("a"), "2");
  EXPECT_EQ(query.at("b"), "x y z");
  EXPECT_EQ(query.at("c"), "");
  EXPECT_EQ(query.at("A"), "%zz");
  EXPECT_TRUE(parse_query("").empty());
}

}  // namespace
}  // namespace imagecache::http
