// The Glance origin against a scripted one: what it asks, what it believes, when it gives up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <latch>
#include <mutex>
#include <thread>

#include "origin/origin.hpp"
#include "support/scripted_origin.hpp"

namespace imagecache::origin {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Content;
using test::Gate;
using test::ImageScript;
using test::ImageSpec;
using test::RangeSupport;
using test::ScriptedOrigin;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;

base::RequestContext caller(std::string token = "token-1") {
  auto context = base::internal_context();
  context.auth_token = std::move(token);
  return context;
}

/// What a stream gave, kept.
struct Received {
  std::optional<StreamStart> start;
  std::string bytes;
  std::size_t begins = 0;
  Result<void> result;
};

class GlanceOrigin : public testing::Test {
 protected:
  GlanceOptions options() const {
    GlanceOptions o;
    o.urls = {server_.url()};
    o.retry_pause = milliseconds(1);
    o.describe_timeout = seconds(20);
    return o;
  }

  static std::unique_ptr<Origin> make(GlanceOptions options) {
    auto made = make_glance_origin(std::move(options));
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return std::move(*made);
  }

  Received receive(Origin& origin, const std::string& id, std::uint64_t offset = 0, std::stop_token stop = {}) {
    Received r;
    r.result = origin.stream(
        id, offset, caller(),
        [&](const StreamStart& start) -> Result<void> {
          ++r.begins;
          r.start = start;
          return {};
        },
        [&](std::span<const std::byte> data) -> Result<void> {
          r.bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
          return {};
        },
        stop);
    return r;
  }

  std::string add(std::uint64_t size = mib) { return server_.add({.content = Content::generated(size, 7)}); }
  void script_file(const std::string& id, const std::function<void(test::FileScript&)>& change) {
    server_.script(id, [&](ImageScript& s) { change(s.file); });
  }
  void script_describe(const std::string& id, const std::function<void(test::DescribeScript&)>& change) {
    server_.script(id, [&](ImageScript& s) { change(s.describe); });
  }

  ScriptedOrigin server_;
  const Content content_ = Content::generated(mib, 7);
};

// --- describe -------------------------------------------------------------------------------------------------------

TEST_F(GlanceOrigin, DescribesWhatGlanceSays) {
  const auto id = server_.add({.content = content_,
                               .name = "Debian \"12\"",
                               .disk_format = "qcow2",
                               .visibility = "shared",
                               .owner = "p1",
                               .min_disk_gb = 3,
                               .min_ram_mb = 512,
                               .json = {{"virtual_size", "2147483648"},
                                        {"os_distro", "\"debian\""},
                                        {"hw_number", "5"},
                                        {"stores", "\"file1\""},
                                        {"tags", "[\"a\"]"},
                                        {"size", "1048576"}}});
  const auto info = make(options())->describe(id, caller());
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->id, id);
  EXPECT_EQ(info->name, "Debian \"12\"");
  EXPECT_EQ(info->status, "active");
  EXPECT_EQ(info->disk_format, "qcow2");
  EXPECT_EQ(info->container_format, "bare");
  EXPECT_EQ(info->size_bytes, mib);
  EXPECT_EQ(info->virtual_size_bytes, 2 * 1024 * mib);
  EXPECT_EQ(info->checksum, content_.md5());
  EXPECT_EQ(info->os_hash_algo, "sha512");
  EXPECT_EQ(info->os_hash_value, content_.sha512());
  EXPECT_EQ(info->content_key(), "sha512:" + content_.sha512());
  EXPECT_EQ(info->updated_at, "2026-11-22T21:32:44Z");
  EXPECT_EQ(info->min_disk_gb, 3U);
  EXPECT_EQ(info->min_ram_mb, 512U);
  EXPECT_EQ(info->owner, "p1");
  EXPECT_EQ(info->visibility, "shared");
  EXPECT_THAT(info->properties, ElementsAre(std::pair("os_distro", "debian")));
}

TEST_F(GlanceOrigin, ContentWithoutAStrongHashIsNamedByImageAndTime) {
  const auto bare =
      server_.add({.id = "no-hash", .json = {{"os_hash_algo", "null"}, {"os_hash_value", "null"}, {"size", "null"}}});
  const auto weak = server_.add({.id = "weak", .json = {{"os_hash_algo", "\"md5\""}, {"os_hash_value", "\"00ff\""}}});
  auto origin = make(options());
  const auto info = origin->describe(bare, caller());
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->size_bytes, std::nullopt);
  EXPECT_EQ(info->content_key(), "no-hash@2026-11-22T21:32:44Z");
  EXPECT_EQ(origin->describe(weak, caller())->content_key(), "weak@2026-11-22T21:32:44Z");
}

TEST_F(GlanceOrigin, SendsTheCallersTokenAndRequestId) {
  const auto id = add();
  auto origin = make(options());
  auto context = caller("secret");
  ASSERT_TRUE(origin->describe(id, context));
  auto seen = server_.last_request("GET", test::describe_path(id));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->header("x-auth-token"), "secret");
  EXPECT_EQ(seen->header("x-openstack-request-id"), context.request_id);
  EXPECT_EQ(seen->header("accept"), "application/json");
  EXPECT_EQ(seen->header("accept-encoding"), "");

  context.global_request_id = "req-00000000-0000-4000-8000-00000000000a";
  ASSERT_TRUE(origin->describe(id, context));
  EXPECT_EQ(server_.last_request()->header("x-openstack-request-id"), context.global_request_id);
  EXPECT_EQ(server_.connections(), 1U) << "the connection is kept";
}

TEST_F(GlanceOrigin, AsksNothingWithATokenOrIdThatWouldBreakTheRequest) {
  auto origin = make(options());
  EXPECT_EQ(origin->describe(add(), caller("a\r\nX-Evil: 1")).error().code, Errc::unauthenticated);
  for (const auto* id : {"", "..", "a/b", "a?b", "a b"}) {
    EXPECT_EQ(origin->describe(id, caller()).error().code, Errc::not_found) << id;
    EXPECT_EQ(receive(*origin, id).result.error().code, Errc::not_found) << id;
  }
  EXPECT_EQ(server_.requests(), 0U);
}

TEST_F(GlanceOrigin, WhatGlanceDeniesIsDenied) {
  const auto id = add();
  server_.script(id, [](ImageScript& s) {
    s.describe.tokens = {{"expired", 401}, {"stranger", 403}, {"other", 404}};
    s.file.tokens = s.describe.tokens;
  });
  auto origin = make(options());
  const std::map<std::string, Errc> expected = {
      {"expired", Errc::unauthenticated}, {"stranger", Errc::forbidden}, {"other", Errc::not_found}};
  for (const auto& [token, code] : expected) {
    EXPECT_EQ(origin->describe(id, caller(token)).error().code, code);
    const auto streamed = origin->stream(
        id, 0, caller(token), [](const StreamStart&) -> Result<void> { return fail(Errc::internal, "begun"); },
        [](std::span<const std::byte>) -> Result<void> { return {}; }, {});
    EXPECT_EQ(streamed.error().code, code) << streamed.error().message;
  }
  EXPECT_TRUE(origin->describe(id, caller()));
  EXPECT_EQ(server_.describes(id), 4U) << "a denial is not asked for again";
}

TEST_F(GlanceOrigin, ADeactivatedImageIsForbiddenWithGlancesReason) {
  const auto id = add();
  server_.change(id, [](ImageSpec& s) { s.status = "deactivated"; });
  auto origin = make(options());
  EXPECT_EQ(origin->describe(id, caller())->status, "deactivated");
  const auto received = receive(*origin, id);
  EXPECT_EQ(received.result.error().code, Errc::forbidden);
  EXPECT_THAT(received.result.error().message, HasSubstr("The requested image has been deactivated"));
}

TEST_F(GlanceOrigin, AnswersThatMakeNoSenseAreUnavailable) {
  const auto id = add();
  auto origin = make(options());
  const auto message = [&](const std::function<void(test::DescribeScript&)>& change) {
    script_describe(id, [&](test::DescribeScript& s) {
      s = {};
      change(s);
    });
    const auto info = origin->describe(id, caller());
    EXPECT_FALSE(info.has_value());
    if (info) return std::string();
    EXPECT_EQ(info.error().code, Errc::unavailable) << info.error().message;
    return info.error().message;
  };
  const auto body = [&](const std::string& text) {
    return message([&](test::DescribeScript& s) { s.raw_body = text; });
  };
  EXPECT_THAT(message([](auto& s) { s.html_with_200 = true; }), HasSubstr("HTML page"));
  EXPECT_THAT(message([](auto& s) { s.endless = true; }), HasSubstr("more than 4.0 MiB"));
  EXPECT_THAT(message([](auto& s) { s.status = 500; }), HasSubstr("500"));
  EXPECT_THAT(message([](auto& s) { s.status = 300; }), HasSubstr("300"));
  EXPECT_THAT(body(""), HasSubstr("not JSON"));
  EXPECT_THAT(body("{\"id\": "), HasSubstr("not JSON"));
  EXPECT_THAT(body("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(body("{}"), HasSubstr("names no image id"));
  EXPECT_THAT(body(R"({"id": "another", "status": "active"})"), HasSubstr("another image"));
  const auto with = [&](const std::string& more) {
    return body(R"({"status": "active", "id": ")" + id + "\"" + more + "}");
  };
  EXPECT_THAT(with(R"(, "size": -1)"), HasSubstr("\"size\" is not a whole number"));
  EXPECT_THAT(with(R"(, "size": "7")"), HasSubstr("\"size\" is not a whole number"));
  EXPECT_THAT(with(R"(, "size": 1e300)"), HasSubstr("\"size\" is not a whole number"));
  EXPECT_THAT(with(R"(, "os_hash_algo": "sha512", "os_hash_value": "../../x")"), HasSubstr("hexadecimal"));
  EXPECT_THAT(with(", \"name\": \"\xff\""), HasSubstr("not JSON"));
  EXPECT_THAT(body(std::string(100'000, '[')), HasSubstr("not JSON"));
  EXPECT_THAT(body(R"({"id": ")" + id + R"("})"), HasSubstr("status"));
}

TEST_F(GlanceOrigin, ASilentServerEndsWithTheDeadline) {
  const auto id = add();
  const auto gate = std::make_shared<Gate>();
  script_describe(id, [&](auto& s) { s.hold_head = gate; });
  auto o = options();
  o.describe_timeout = milliseconds(150);
  const auto info = make(o)->describe(id, caller());
  EXPECT_EQ(info.error().code, Errc::timeout) << info.error().message;
}

// --- retries and URLs -----------------------------------------------------------------------------------------------

TEST_F(GlanceOrigin, A503IsAskedAgain) {
  const auto id = add();
  server_.script(id, [](ImageScript& s) {
    s.describe.refuse_times = 3;
    s.describe.retry_after_s = 3600;  // heeded within reason: 8 pauses of ours
    s.file.refuse_times = 2;
    s.file.hang_up_before_head_times = 1;
  });
  auto origin = make(options());
  EXPECT_TRUE(origin->describe(id, caller()));
  EXPECT_EQ(server_.describes(id), 4U);
  const auto received = receive(*origin, id);
  EXPECT_TRUE(received.result) << received.result.error().message;
  EXPECT_EQ(received.begins, 1U);
  EXPECT_EQ(received.bytes, content_.bytes());
}

TEST_F(GlanceOrigin, RetriesEnd) {
  const auto id = add();
  script_describe(id, [](auto& s) { s.refuse_times = 100; });
  const auto info = make(options())->describe(id, caller());
  EXPECT_EQ(info.error().code, Errc::unavailable);
  EXPECT_THAT(info.error().message, HasSubstr(server_.url()));
  EXPECT_EQ(server_.describes(id), 4U) << "one try and three retries";
}

TEST_F(GlanceOrigin, AServerThatIsAwayIsUnavailableAndComesBack) {
  const auto id = add();
  auto o = options();
  o.num_retries = 0;
  auto origin = make(o);
  EXPECT_TRUE(origin->describe(id, caller()));
  server_.go_down();
  EXPECT_EQ(origin->describe(id, caller()).error().code, Errc::unavailable);
  EXPECT_EQ(receive(*origin, id).result.error().code, Errc::unavailable);
  server_.come_back();
  EXPECT_TRUE(origin->describe(id, caller())) << "a dead kept connection is replaced";
}

TEST_F(GlanceOrigin, TheNextUrlIsAskedWhenOneFails) {
  ScriptedOrigin second;
  const auto id = add();
  second.add({.id = id, .content = content_});
  auto o = options();
  o.urls.push_back(second.url());
  o.retry_pause = std::chrono::hours(1);  // never waited for while there is another URL
  o.num_retries = 1;
  auto origin = make(o);
  server_.go_down();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(origin->describe(id, caller()));
  EXPECT_EQ(second.describes(id), 4U);
  EXPECT_TRUE(receive(*origin, id).result);
  server_.come_back();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(origin->describe(id, caller()));
  EXPECT_EQ(second.describes(id), 6U) << "calls take turns";
  EXPECT_EQ(server_.describes(id), 2U);
  script_describe(id, [](auto& s) { s.html_with_200 = true; });
  EXPECT_TRUE(origin->describe(id, caller())) << "so is one that talks nonsense";
  EXPECT_TRUE(origin->describe(id, caller()));
}

TEST_F(GlanceOrigin, AStopEndsTheWaitBetweenAttempts) {
  const auto id = add();
  script_file(id, [](auto& s) { s.refuse_times = 100; });
  auto o = options();
  o.retry_pause = std::chrono::hours(1);
  auto origin = make(o);
  std::stop_source stop;
  std::jthread stopper([&] {
    EXPECT_TRUE(server_.wait_requests(test::file_path(id), 1));
    stop.request_stop();
  });
  EXPECT_EQ(receive(*origin, id, 0, stop.get_token()).result.error().code, Errc::cancelled);
}

TEST_F(GlanceOrigin, RedirectsAreFollowedOnTheSameHostOnlyAndNotForEver) {
  const auto id = add();
  auto origin = make(options());
  server_.script(id, [](ImageScript& s) { s.describe.redirect_to = s.file.redirect_to = "self"; });
  EXPECT_THAT(origin->describe(id, caller()).error().message, HasSubstr("redirects more than 3 times"));
  EXPECT_EQ(server_.describes(id), 4U);
  EXPECT_EQ(receive(*origin, id).result.error().code, Errc::unavailable);
  EXPECT_EQ(server_.downloads(id), 4U);

  server_.answer("GET", "/elsewhere", {.status = 200, .headers = {}, .body = "moved bytes"});
  script_file(id, [](auto& s) { s.redirect_to = "/elsewhere"; });
  EXPECT_EQ(receive(*origin, id).bytes, "moved bytes");

  ScriptedOrigin thief;
  for (const auto& target :
       {thief.url() + "/v2/images/" + id, std::string("file:///etc/passwd"),
        std::string("http://localhost:") + std::to_string(server_.port()) + "/elsewhere",
        std::string("//other.example/x"), "http://u:p@127.0.0.1:" + std::to_string(server_.port()) + "/elsewhere"}) {
    script_file(id, [&](auto& s) { s.redirect_to = target; });
    const auto received = receive(*origin, id);
    EXPECT_EQ(received.result.error().code, Errc::unavailable);
    EXPECT_THAT(received.result.error().message, HasSubstr("another host")) << target;
    EXPECT_EQ(received.begins, 0U);
  }
  EXPECT_EQ(thief.connections(), 0U) << "it has not seen the token";
}

// --- stream ---------------------------------------------------------------------------------------------------------

TEST_F(GlanceOrigin, StreamsAnImage) {
  const auto id = add();
  const auto received = receive(*make(options()), id);
  ASSERT_TRUE(received.result) << received.result.error().message;
  EXPECT_EQ(received.begins, 1U);
  EXPECT_EQ(received.start->offset_bytes, 0U);
  EXPECT_EQ(received.start->total_bytes, mib);
  EXPECT_EQ(received.bytes, content_.bytes());
  EXPECT_THAT(server_.ranges(id), ElementsAre(""));
}

TEST_F(GlanceOrigin, StreamsAChunkedImageWithoutKnowingItsLength) {
  const auto id = add();
  script_file(id, [](auto& s) { s.chunked = true; });
  const auto received = receive(*make(options()), id);
  ASSERT_TRUE(received.result);
  EXPECT_EQ(received.start->total_bytes, std::nullopt);
  EXPECT_EQ(received.bytes, content_.bytes());
}

TEST_F(GlanceOrigin, AnEmptyImageBeginsAndEnds) {
  const auto id = add(0);
  const auto received = receive(*make(options()), id);
  ASSERT_TRUE(received.result);
  EXPECT_EQ(received.begins, 1U);
  EXPECT_EQ(received.start->total_bytes, 0U);
}

TEST_F(GlanceOrigin, GoesOnFromAnOffset) {
  const auto id = add();
  auto origin = make(options());
  auto received = receive(*origin, id, 1000);
  ASSERT_TRUE(received.result);
  EXPECT_EQ(received.start->offset_bytes, 1000U);
  EXPECT_EQ(received.start->total_bytes, mib);
  EXPECT_EQ(received.bytes, content_.bytes(1000));
  EXPECT_THAT(server_.ranges(id), ElementsAre("bytes=1000-"));

  script_file(id, [](auto& s) { s.chunked = true; });
  received = receive(*origin, id, 1000);
  ASSERT_TRUE(received.result);
  EXPECT_EQ(received.start->total_bytes, mib);
}

TEST_F(GlanceOrigin, BeginsAnewWhereRangesAreNotHad) {
  const auto id = add();
  auto origin = make(options());
  for (const auto support : {RangeSupport::ignored, RangeSupport::refused}) {
    script_file(id, [&](auto& s) { s.ranges = support; });
    const auto received = receive(*origin, id, 1000);
    ASSERT_TRUE(received.result) << received.result.error().message;
    EXPECT_EQ(received.start->offset_bytes, 0U);
    EXPECT_EQ(received.bytes, content_.bytes());
  }
  script_file(id, [&](auto& s) { s.ranges = RangeSupport::yes; });
  const auto beyond = receive(*origin, id, 2 * mib);
  ASSERT_TRUE(beyond.result);
  EXPECT_EQ(beyond.start->offset_bytes, 0U) << "we had more of it than there is";
}

TEST_F(GlanceOrigin, APartThatWasNotAskedForIsRefusedBeforeAByte) {
  const auto id = add();
  auto origin = make(options());
  script_file(id, [](auto& s) { s.content_range_shift = 5; });
  auto received = receive(*origin, id, 1000);
  EXPECT_EQ(received.result.error().code, Errc::unavailable);
  EXPECT_EQ(received.begins, 0U);
  EXPECT_EQ(received.bytes, "");

  server_.answer("GET", test::file_path(id),
                 {.status = 206, .headers = {{"Content-Range", "bytes 0-2/9"}}, .body = "abc"});
  EXPECT_EQ(receive(*origin, id).result.error().code, Errc::unavailable) << "nobody asked for a part";
  server_.answer("GET", test::file_path(id),
                 {.status = 206, .headers = {{"Content-Range", "bytes 5-7/9"}}, .body = "abc"});
  EXPECT_THAT(receive(*origin, id, 5).result.error().message, HasSubstr("less than was asked for"));
  server_.answer("GET", test::file_path(id),
                 {.status = 206, .headers = {{"Content-Range", "bytes 5-8/9"}}, .body = "abc"});
  EXPECT_THAT(receive(*origin, id, 5).result.error().message, HasSubstr("do not agree"));
  server_.answer("GET", test::file_path(id), {.status = 206, .headers = {}, .body = "abc"});
  EXPECT_EQ(receive(*origin, id, 5).begins, 0U);
}

TEST_F(GlanceOrigin, MoreThanWasAnnouncedIsCorrupt) {
  const auto id = add();
  script_file(id, [](auto& s) {
    s.chunked = true;
    s.headers["Content-Range"] = "bytes 1000-1048573/1048574";
  });
  const auto received = receive(*make(options()), id, 1000);
  EXPECT_EQ(received.result.error().code, Errc::corrupt) << received.result.error().message;
  EXPECT_LE(received.bytes.size(), 1048574U - 1000U);
}

TEST_F(GlanceOrigin, LessThanWasAnnouncedIsUnavailable) {
  const auto id = add();
  script_file(id, [](auto& s) {
    s.chunked = true;
    s.headers["Content-Range"] = "bytes 1000-1048576/1048577";
  });
  EXPECT_EQ(receive(*make(options()), id, 1000).result.error().code, Errc::unavailable);
}

TEST_F(GlanceOrigin, AnImageWithoutDataIsNotFound) {
  const auto id = add();
  script_file(id, [](auto& s) { s.no_data = true; });
  const auto received = receive(*make(options()), id);
  EXPECT_EQ(received.result.error().code, Errc::not_found);
  EXPECT_THAT(received.result.error().message, HasSubstr("no data"));
  EXPECT_EQ(received.begins, 0U);
  EXPECT_EQ(server_.downloads(id), 1U);
}

TEST_F(GlanceOrigin, AnHtmlPageOrAnEncodedBodyIsNoImage) {
  const auto id = add();
  auto origin = make(options());
  script_file(id, [](auto& s) { s.html_with_200 = true; });
  auto received = receive(*origin, id);
  EXPECT_EQ(received.result.error().code, Errc::unavailable);
  EXPECT_THAT(received.result.error().message, HasSubstr("HTML page"));
  EXPECT_EQ(received.begins, 0U);
  script_file(id, [](auto& s) {
    s = {};
    s.headers["Content-Encoding"] = "gzip";
  });
  received = receive(*origin, id);
  EXPECT_THAT(received.result.error().message, HasSubstr("gzip"));
  EXPECT_EQ(received.begins, 0U);
}

TEST_F(GlanceOrigin, ABrokenBodyIsUnavailableAndNotTriedAgainBehindTheCallersBack) {
  const auto id = add();
  auto origin = make(options());
  for (const bool chunked : {false, true}) {
    script_file(id, [&](auto& s) {
      s.chunked = chunked;
      s.hang_up_at = mib / 2;
      s.hang_up_times = 1;
    });
    const auto broken = receive(*origin, id);
    EXPECT_EQ(broken.result.error().code, Errc::unavailable) << broken.result.error().message;
    EXPECT_EQ(broken.bytes, content_.bytes(0, mib / 2));
    EXPECT_EQ(broken.begins, 1U);
    const auto rest = receive(*origin, id, mib / 2);
    EXPECT_TRUE(rest.result);
    EXPECT_EQ(broken.bytes + rest.bytes, content_.bytes());
  }
  EXPECT_EQ(server_.downloads(id), 4U);
}

TEST_F(GlanceOrigin, ABodyThatStallsIsBrokenOff) {
  const auto id = add();
  const auto gate = std::make_shared<Gate>();
  script_file(id, [&](auto& s) { s.gates = {{mib / 2, gate}}; });
  auto o = options();
  o.low_speed_time = seconds(1);
  const auto received = receive(*make(o), id);
  EXPECT_EQ(received.result.error().code, Errc::unavailable) << received.result.error().message;
  EXPECT_EQ(received.bytes.size(), mib / 2);
}

TEST_F(GlanceOrigin, AStopEndsAStreamThatWaits) {
  const auto id = add();
  const auto gate = std::make_shared<Gate>();
  script_file(id, [&](auto& s) { s.gates = {{mib / 2, gate}}; });
  std::stop_source stop;
  std::jthread stopper([&] {
    EXPECT_TRUE(gate->wait_arrived());
    stop.request_stop();
  });
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(receive(*make(options()), id, 0, stop.get_token()).result.error().code, Errc::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(10));
}

TEST_F(GlanceOrigin, AStopEndsAStreamThatNeverPauses) {
  const auto id = add();
  script_file(id, [](auto& s) { s.endless = true; });
  std::stop_source stop;
  std::uint64_t received = 0;
  const auto result = make(options())->stream(
      id, 0, caller(), [](const StreamStart&) -> Result<void> { return {}; },
      [&](std::span<const std::byte> data) -> Result<void> {
        received += data.size();
        if (received > 3 * mib) stop.request_stop();
        return {};
      },
      stop.get_token());
  EXPECT_EQ(result.error().code, Errc::cancelled);
  EXPECT_TRUE(server_.wait_idle()) << "the connection was closed";
}

TEST_F(GlanceOrigin, TheCallersOwnFailureComesBackAsItIs) {
  const auto id = add();
  auto origin = make(options());
  const auto full = [](std::span<const std::byte>) -> Result<void> { return fail(Errc::no_space, "disk full"); };
  const auto fine = [](const StreamStart&) -> Result<void> { return {}; };
  auto result = origin->stream(id, 0, caller(), fine, full, {});
  EXPECT_EQ(result.error().code, Errc::no_space);
  EXPECT_EQ(result.error().message, "disk full");
  const auto unwilling = [](const StreamStart&) -> Result<void> { return fail(Errc::unavailable, "no room"); };
  result = origin->stream(id, 0, caller(), unwilling, full, {});
  EXPECT_EQ(result.error().message, "no room");
  EXPECT_EQ(server_.downloads(id), 2U);
}

TEST_F(GlanceOrigin, StreamsAndQuestionsHaveConnectionsOfTheirOwn) {
  const auto id = add();
  const auto gate = std::make_shared<Gate>();
  script_file(id, [&](auto& s) { s.gates = {{0, gate}}; });
  auto o = options();
  o.max_connections = 3;
  o.max_questions = 2;
  auto origin = make(o);
  std::vector<std::jthread> readers;
  for (int i = 0; i < 6; ++i) {
    readers.emplace_back([&] { EXPECT_EQ(receive(*origin, id).bytes, content_.bytes()); });
  }
  ASSERT_TRUE(gate->wait_arrived(3));
  EXPECT_TRUE(origin->describe(id, caller()));
  EXPECT_EQ(server_.downloads_under_way(), 3U);

  const auto held = std::make_shared<Gate>();
  script_describe(id, [&](auto& s) { s.hold_head = held; });
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] { EXPECT_TRUE(origin->describe(id, caller())); });
  }
  ASSERT_TRUE(held->wait_arrived(2));
  gate->open();
  ASSERT_TRUE(server_.wait_requests(test::file_path(id), 6)) << "questions that wait keep no stream waiting";
  EXPECT_EQ(held->arrived(), 2U);
  held->open();
  readers.clear();
  EXPECT_EQ(server_.max_concurrent(), 3U);
  EXPECT_LE(server_.connections(), 5U);
}

TEST_F(GlanceOrigin, AHerdOfQuestionsIsAskedAtOnceAndLeavesFewConnectionsOpen) {
  const auto id = add();
  constexpr unsigned herd = 32;
  auto o = options();
  o.max_questions = 64;
  auto origin = make(o);
  for (int wave = 0; wave < 3; ++wave) {
    const auto gate = std::make_shared<Gate>();
    script_describe(id, [&](auto& s) { s.hold_head = gate; });
    std::vector<std::jthread> askers;
    for (unsigned i = 0; i < herd; ++i) askers.emplace_back([&] { EXPECT_TRUE(origin->describe(id, caller())); });
    EXPECT_TRUE(gate->wait_arrived(herd)) << "all are asked at once";
    gate->open();
  }
  EXPECT_EQ(server_.connections(), herd + 2 * (herd - o.max_questions / 4)) << "a quarter of the most is kept";
}

TEST_F(GlanceOrigin, AFullPoolIsBusyInTime) {
  const auto id = add();
  auto o = options();
  o.max_connections = 1;
  o.num_retries = 0;
  o.low_speed_time = seconds(1);
  auto origin = make(o);
  std::latch holding(1);
  std::latch enough(1);
  std::jthread holder([&] {
    const auto begin = [&](const StreamStart&) -> Result<void> {
      holding.count_down();
      enough.wait();
      return {};
    };
    EXPECT_TRUE(
        origin->stream(id, 0, caller(), begin, [](std::span<const std::byte>) -> Result<void> { return {}; }, {}));
  });
  holding.wait();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(receive(*origin, id, 0, stop.get_token()).result.error().code, Errc::cancelled);
  const auto late = receive(*origin, id);
  EXPECT_EQ(late.result.error().code, Errc::busy) << late.result.error().message;
  EXPECT_THAT(late.result.error().message, HasSubstr("all 1 connections for downloads"));
  enough.count_down();
}

// --- options --------------------------------------------------------------------------------------------------------

TEST_F(GlanceOrigin, UrlsAreReadAsCinderReadsThem) {
  const auto id = add();
  const auto host = "127.0.0.1:" + std::to_string(server_.port());
  for (const auto& url : {host, "http://" + host + "/", "http://" + host + "/v2/", " http://" + host + "/v2.1"}) {
    auto o = options();
    o.urls = {url};
    auto origin = make(o);
    EXPECT_TRUE(origin->describe(id, caller())) << url;
    EXPECT_EQ(origin->name(), "http://" + host);
    EXPECT_THAT(origin->proxy_urls(), ElementsAre("http://" + host));
  }
}

TEST_F(GlanceOrigin, OptionsThatCannotWorkAreRefused) {
  const auto refused = [&](const std::function<void(GlanceOptions&)>& change) {
    auto o = options();
    change(o);
    const auto made = make_glance_origin(o);
    EXPECT_FALSE(made.has_value());
    return made ? Errc::internal : made.error().code;
  };
  EXPECT_EQ(refused([](auto& o) { o.urls.clear(); }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.urls = {"ftp://host/"}; }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.urls = {"http://user:password@host/"}; }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.urls = {"http://"}; }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.urls = {"http://host/?a=b"}; }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.low_speed_time = seconds(0); }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.max_connections = 0; }), Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.ca_file = "/no/such/file"; }), Errc::invalid_argument);
}

TEST_F(GlanceOrigin, ImagesAreLookedForByTagAndByProperty) {
  const auto origin = make(options());
  const std::string one = "b8a4849c-1537-4574-badd-90de38482b5a", two = "c8a4849c-1537-4574-badd-90de38482b5a";
  server_.answer("GET", "/v2/images",
                 {.status = 200, .body = R"({"images": [{"id": ")" + one + R"("}, {"id": ")" + two + R"("}]})"});
  const auto tagged = origin->find_marked({.name = "kept warm&x=y", .value = std::nullopt}, 10, caller());
  ASSERT_TRUE(tagged) << tagged.error().message;
  EXPECT_THAT(*tagged, ElementsAre(one, two));
  EXPECT_EQ(server_.last_request()->target, "/v2/images?status=active&limit=10&tag=kept%20warm%26x%3Dy");
  EXPECT_EQ(server_.last_request()->header("x-auth-token"), "token-1");
  const auto by_property = origin->find_marked({.name = "os_distro", .value = "debian"}, 1, caller());
  ASSERT_TRUE(by_property);
  EXPECT_THAT(*by_property, ElementsAre(one)) << "no more than were asked for";
  EXPECT_EQ(server_.last_request()->target, "/v2/images?status=active&limit=1&os_distro=debian");

  for (const std::string body : {"<html>", "[]", R"({"images": 3})", R"({"images": [{"id": "../x"}]})"}) {
    server_.answer("GET", "/v2/images", {.status = 200, .body = body});
    const auto nonsense = origin->find_marked({.name = "t", .value = std::nullopt}, 10, caller());
    ASSERT_FALSE(nonsense) << body;
    EXPECT_EQ(nonsense.error().code, Errc::unavailable);
  }
}

}  // namespace
}  // namespace imagecache::origin
