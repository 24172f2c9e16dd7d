// May this caller have the bytes? What a Glance, and others, answer to the question, and what it costs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "origin/origin.hpp"
#include "raw_server.hpp"
#include "support/scripted_origin.hpp"

namespace imagecache::origin {
namespace {

using std::chrono::milliseconds;
using test::Content;
using test::RangeSupport;
using test::ScriptedOrigin;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

constexpr std::uint64_t mib = 1 << 20;
constexpr const char* image = "0a0a0a0a-0000-4000-8000-000000000001";

base::RequestContext caller(std::string token = "token-1") {
  auto context = base::internal_context();
  context.auth_token = std::move(token);
  return context;
}

std::unique_ptr<Origin> origin_at(std::vector<std::string> urls, unsigned questions = 1) {
  GlanceOptions options;
  options.urls = std::move(urls);
  options.retry_pause = milliseconds(1);
  options.describe_timeout = std::chrono::seconds(5);
  options.max_questions = questions;  // a connection that is not given back would end the test
  auto made = make_glance_origin(std::move(options));
  EXPECT_TRUE(made.has_value()) << made.error().message;
  return std::move(*made);
}

/// The code, or nullopt for a yes.
std::optional<Errc> asked(Origin& origin, const std::string& id = image, const std::string& token = "token-1") {
  const auto result = origin.authorize_download(id, caller(token));
  if (result) return std::nullopt;
  return result.error().code;
}

RawServer::Script always(const std::string& text) {
  return [text](const std::string&) { return text; };
}

TEST(AuthorizeDownload, ARangeThatNoImageHasIsAskedForAndRefusedToThoseWhoMayHaveIt) {
  ScriptedOrigin server;
  const auto id = server.add({.content = Content::generated(mib, 7)});
  const auto origin = origin_at({server.url()});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(asked(*origin, id), std::nullopt);
  const auto seen = server.last_request("GET", test::file_path(id));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->header("range"), "bytes=9223372036854775806-");
  EXPECT_EQ(seen->header("x-auth-token"), "token-1");
  EXPECT_EQ(server.connections(), 1U) << "the connection is kept";
  EXPECT_EQ(server.requests(), 3U);
}

TEST(AuthorizeDownload, WhatIsDeniedForTheBytesIsDeniedThoughTheRecordMayBeRead) {
  ScriptedOrigin server;
  const auto id = server.add({.content = Content::generated(mib, 7)});
  server.script(id, [](test::ImageScript& script) {
    script.file.tokens = {{"expired", 401}, {"reader", 403}, {"stranger", 404}};
  });
  const auto origin = origin_at({server.url()});
  EXPECT_TRUE(origin->describe(id, caller("reader")));
  EXPECT_EQ(asked(*origin, id, "expired"), Errc::unauthenticated);
  EXPECT_EQ(asked(*origin, id, "reader"), Errc::forbidden);
  EXPECT_EQ(asked(*origin, id, "stranger"), Errc::not_found);
  EXPECT_EQ(asked(*origin, id, "member"), std::nullopt);
  EXPECT_EQ(server.requests(), 5U) << "a denial is not asked for again";
}

TEST(AuthorizeDownload, AnOriginWithoutRangesSaysYesByBeginningAndIsBrokenOff) {
  for (const auto* head : {"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 107374182400\r\n\r\n",
                           "HTTP/1.1 206 Partial Content\r\nContent-Length: 107374182400\r\n\r\n"}) {
    RawServer server(always(std::string("flood:") + head));
    const auto origin = origin_at({server.url()});
    for (int i = 0; i < 3; ++i) EXPECT_EQ(asked(*origin), std::nullopt) << head;
    EXPECT_TRUE(server.wait_no_open_connection()) << "it would go on sending to nobody";
    EXPECT_THAT(server.heads(), SizeIs(3));
  }
}

TEST(AuthorizeDownload, AnImageWithoutDataIsAllowed) {
  RawServer server(always("HTTP/1.1 204 No Content\r\n\r\n"));
  const auto origin = origin_at({server.url()});
  EXPECT_EQ(asked(*origin), std::nullopt);
}

TEST(AuthorizeDownload, WhereARangeIsABadRequestTheImageIsAskedForAndThatIsRemembered) {
  RawServer server([](const std::string& head) -> std::string {
    if (head.contains("\r\nRange:")) return answer("400 Bad Request", "", "no ranges here");
    if (head.contains("reader")) return answer("403 Forbidden", "", "no");
    return "flood:HTTP/1.1 200 OK\r\nContent-Length: 107374182400\r\n\r\n";
  });
  const auto origin = origin_at({server.url()});
  EXPECT_EQ(asked(*origin, image, "reader"), Errc::forbidden);
  EXPECT_THAT(server.heads(), SizeIs(2));
  EXPECT_EQ(asked(*origin), std::nullopt);
  EXPECT_THAT(server.heads(), SizeIs(4)) << "a denial teaches nothing about ranges";
  EXPECT_EQ(asked(*origin), std::nullopt);
  EXPECT_EQ(asked(*origin, image, "reader"), Errc::forbidden);
  ASSERT_THAT(server.heads(), SizeIs(6));
  EXPECT_THAT(server.heads()[4], Not(HasSubstr("Range:")));
  EXPECT_THAT(server.heads()[5], Not(HasSubstr("Range:")));
  EXPECT_TRUE(server.wait_no_open_connection(1)) << "but for the one that is kept";
}

// glance-api 25.1 on a queued image: it compares the range with a size that is None.
TEST(AuthorizeDownload, WhereTheRangeIsAServersErrorTheImageIsAskedForEachTime) {
  RawServer server([](const std::string& head) -> std::string {
    if (head.contains("\r\nRange:")) return answer("500 Internal Server Error", "", "");
    return "HTTP/1.1 204 No Content\r\n\r\n";
  });
  const auto origin = origin_at({server.url()});
  EXPECT_EQ(asked(*origin), std::nullopt);
  EXPECT_EQ(asked(*origin), std::nullopt);
  ASSERT_THAT(server.heads(), SizeIs(4));
  EXPECT_THAT(server.heads()[2], HasSubstr("Range:")) << "one image's error says nothing of the others";
}

TEST(AuthorizeDownload, ABadRequestOnBothWaysIsNoYes) {
  RawServer server(always(answer("400 Bad Request", "", "never")));
  const auto origin = origin_at({server.url()});
  EXPECT_EQ(asked(*origin), Errc::invalid_argument);
}

TEST(AuthorizeDownload, EachUrlIsAskedInTheWayThatItUnderstands) {
  RawServer strict([](const std::string& head) -> std::string {
    if (head.contains("\r\nRange:")) return answer("400 Bad Request", "", "");
    return "flood:HTTP/1.1 200 OK\r\n\r\n";
  });
  RawServer glance(always(answer("416 Requested Range Not Satisfiable", "", "<html></html>")));
  const auto origin = origin_at({strict.url(), glance.url()});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(asked(*origin), std::nullopt);
  EXPECT_THAT(strict.heads(), SizeIs(3)) << "two calls, and one way learnt";
  ASSERT_THAT(glance.heads(), SizeIs(2));
  for (const auto& head : glance.heads()) EXPECT_THAT(head, HasSubstr("Range:"));
}

TEST(AuthorizeDownload, NothingButAYesIsAYes) {
  const std::map<std::string, Errc> answers = {
      {answer("500 Internal Server Error", "", "boom"), Errc::unavailable},
      {answer("503 Service Unavailable", "", ""), Errc::unavailable},
      {answer("504 Gateway Timeout", "", ""), Errc::timeout},
      {answer("409 Conflict", "", ""), Errc::conflict},
      {answer("300 Multiple Choices", "", ""), Errc::unavailable},
      {answer("202 Accepted", "", ""), Errc::unavailable},
      {answer("200 OK", "Content-Type: text/html\r\n", "<h1>Sign in</h1>"), Errc::unavailable},
      {"close:HTTP/1.1 ", Errc::unavailable},
      {"close:", Errc::unavailable},
      {"close:garbage\r\n\r\n", Errc::unavailable},
  };
  for (const auto& [text, code] : answers) {
    RawServer server(always(text));
    const auto origin = origin_at({server.url()});
    EXPECT_EQ(asked(*origin), code) << text;
  }
}

TEST(AuthorizeDownload, ADenialHasTheOriginsWords) {
  const std::map<std::string, std::string> bodies = {
      {R"({"message": "You are not authorized.<br /><br />\n\n", "code": "403 Forbidden"})",
       "(not allowed): You are not authorized."},
      {"<html><h1>403</h1>You are not authorized.<br />\n</html>", "(not allowed): You are not authorized."},
      {R"({"message": 7})", "(not allowed): {\"message\": 7}"},
      {"", "(not allowed)"},
  };
  for (const auto& [body, words] : bodies) {
    RawServer server(always(answer("403 Forbidden", "", body)));
    const auto denied = origin_at({server.url()})->authorize_download(image, caller());
    EXPECT_THAT(denied.error().message, testing::EndsWith(words));
  }
}

TEST(AuthorizeDownload, AServerThatIsAwayIsUnavailable) {
  std::string url;
  {
    RawServer server(always(""));
    url = server.url();
  }
  EXPECT_EQ(asked(*origin_at({url})), Errc::unavailable);
}

TEST(AuthorizeDownload, ASilentServerEndsWithTheDeadline) {
  RawServer server(always(""));
  GlanceOptions options;
  options.urls = {server.url()};
  options.describe_timeout = milliseconds(50);
  const auto origin = make_glance_origin(std::move(options)).value();
  EXPECT_EQ(asked(*origin), Errc::timeout);
}

TEST(AuthorizeDownload, TheNextUrlIsAskedWhereOneFails) {
  RawServer broken(always(answer("500 Internal Server Error", "", "")));
  RawServer glance(always(answer("416 Requested Range Not Satisfiable", "", "")));
  const auto origin = origin_at({broken.url(), glance.url()});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(asked(*origin), std::nullopt);
}

TEST(AuthorizeDownload, StoresThatIgnoreOrRefuseRangesAreYesToo) {
  for (const auto support : {RangeSupport::yes, RangeSupport::ignored, RangeSupport::refused}) {
    ScriptedOrigin server;
    const auto id = server.add({.content = Content::generated(64 * mib, 7)});
    server.script(id, [&](test::ImageScript& script) {
      script.file.ranges = support;
      script.file.tokens = {{"reader", 403}};
    });
    const auto origin = origin_at({server.url()});
    EXPECT_EQ(asked(*origin, id), std::nullopt);
    EXPECT_EQ(asked(*origin, id, "reader"), Errc::forbidden);
  }
}

TEST(AuthorizeDownload, AnIdOrTokenThatWouldBreakTheRequestIsNotAsked) {
  RawServer server(always(answer("416 Requested Range Not Satisfiable", "", "")));
  const auto origin = origin_at({server.url()});
  EXPECT_EQ(asked(*origin, "../x"), Errc::not_found);
  EXPECT_EQ(asked(*origin, image, "a\r\nX-Evil: 1"), Errc::unauthenticated);
  EXPECT_THAT(server.heads(), SizeIs(0));
}

}  // namespace
}  // namespace imagecache::origin
