// Images made at Glance: what is sent, and what its refusals mean.
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>

#include "origin/origin.hpp"
#include "raw_server.hpp"

namespace imagecache::origin {
namespace {

using nlohmann::json;
constexpr const char* id = "b8a4849c-1537-4574-badd-90de38482b5a";
constexpr std::uint64_t large_bytes = 5 << 20;  // more than is sent at once

std::unique_ptr<Origin> origin_at(const std::string& url, GlanceOptions options = {}) {
  options.urls = {url};
  options.retry_pause = std::chrono::milliseconds(0);
  auto made = make_glance_origin(std::move(options));
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}
base::RequestContext user() {
  base::RequestContext context = base::internal_context();
  context.auth_token = "a token";
  return context;
}
RawServer::Script always(const std::string& text) {
  return [text](const std::string&) { return text; };
}
ByteSource counting(std::uint64_t size_bytes) {
  return [at = std::uint64_t{0}, size_bytes](std::span<std::byte> into) mutable -> Result<std::size_t> {
    const auto count = std::min<std::uint64_t>(into.size(), size_bytes - at);
    for (std::size_t i = 0; i < count; ++i) into[i] = static_cast<std::byte>((at + i) % 251);
    at += count;
    return count;
  };
}

TEST(GlanceUploads, AnImagesRecordHasWhatWasAskedAndTheCallersToken) {
  const json made{{"id", id},
                  {"name", "n"},
                  {"status", "queued"},
                  {"disk_format", "raw"},
                  {"container_format", "bare"},
                  {"visibility", "private"}};
  RawServer server(always(answer("201 Created", "", made.dump())));
  const auto origin = origin_at(server.url());
  const auto image = origin->create_image({.name = "n\xff",
                                           .disk_format = "raw",
                                           .container_format = "bare",
                                           .visibility = "private",
                                           .is_protected = false,
                                           .min_disk_gb = 2,
                                           .properties = {{"os_distro", "debian"}}},
                                          user());
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->id, id);
  EXPECT_EQ(image->status, "queued");
  const std::string head = server.heads().at(0);
  EXPECT_TRUE(head.starts_with("POST /v2/images HTTP/1.1")) << head;
  EXPECT_NE(head.find("X-Auth-Token: a token"), std::string::npos);
  EXPECT_NE(head.find("Content-Type: application/json"), std::string::npos);
  const json sent = json::parse(server.bodies().at(0));
  EXPECT_EQ(sent["os_distro"], "debian");
  EXPECT_EQ(sent["protected"], false);
  EXPECT_EQ(sent["min_disk"], 2);
  EXPECT_FALSE(sent.contains("min_ram"));
}

TEST(GlanceUploads, BytesAreSentAsTheyAre) {
  RawServer server(always("HTTP/1.1 204 No Content\r\n\r\n"));
  const auto origin = origin_at(server.url());
  const auto sent = origin->upload(id, large_bytes, counting(large_bytes), user(), {});
  ASSERT_TRUE(sent) << sent.error().message;
  EXPECT_TRUE(server.heads().at(0).starts_with(std::string("PUT /v2/images/") + id + "/file HTTP/1.1"));
  EXPECT_NE(server.heads().at(0).find("Content-Type: application/octet-stream"), std::string::npos);
  std::string wanted(large_bytes, '\0');
  static_cast<void>(counting(large_bytes)(std::as_writable_bytes(std::span(wanted))));
  EXPECT_EQ(server.bodies().at(0), wanted);
}

TEST(GlanceUploads, OnceAllIsSentTheAnswerMayTakeLongerThanABodyMayStandStill) {
  std::promise<void> ends;
  RawServer server([&](const std::string&) {
    ends.get_future().wait();
    return std::string("close:");
  });
  GlanceOptions options;
  options.low_speed_time = std::chrono::seconds(1);
  options.upload_answer_timeout = std::chrono::milliseconds(1500);
  const auto never = origin_at(server.url(), options)->upload(id, large_bytes, counting(large_bytes), user(), {});
  ends.set_value();
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().code, Errc::timeout);
  EXPECT_NE(never.error().message.find("it had all bytes"), std::string::npos) << never.error().message;
}

TEST(GlanceUploads, ARefusalIsTheOriginsOwnWord) {
  struct Case {
    const char* status;
    Errc code;
  };
  for (const Case& one : {Case{"403 Forbidden", Errc::forbidden}, Case{"413 Too Large", Errc::quota_exceeded},
                          Case{"409 Conflict", Errc::conflict}, Case{"401 Unauthorized", Errc::unauthenticated},
                          Case{"503 Away", Errc::unavailable}}) {
    RawServer server(always(answer(one.status, "", "<html><body><h1>no</h1>because of it</body></html>")));
    const auto origin = origin_at(server.url());
    const auto made = origin->create_image({.name = "n"}, user());
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, one.code) << one.status;
    EXPECT_NE(made.error().message.find("because of it"), std::string::npos) << made.error().message;
    EXPECT_EQ(made.error().message.find("127.0.0.1"), std::string::npos) << made.error().message;
    // Never twice: the first may have been done.
    EXPECT_EQ(server.heads().size(), 1U);
  }
}

TEST(GlanceUploads, ASourceThatFailsEndsTheUploadWithItsReason) {
  RawServer server(always("HTTP/1.1 204 No Content\r\n\r\n"));
  const auto origin = origin_at(server.url());
  const ByteSource broken = [](std::span<std::byte>) -> Result<std::size_t> {
    return fail(Errc::corrupt, "the volume is gone");
  };
  const auto sent = origin->upload(id, large_bytes, broken, user(), {});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::corrupt);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(origin->upload(id, large_bytes, counting(large_bytes), user(), stop.get_token()).error().code,
            Errc::cancelled);
}

TEST(GlanceUploads, DeletingWhatIsGoneIsASuccess) {
  RawServer server(always(answer("404 Not Found", "", "")));
  EXPECT_TRUE(origin_at(server.url())->delete_image(id, user()));
  EXPECT_TRUE(server.heads().at(0).starts_with("DELETE /v2/images/"));
  RawServer denying(always(answer("403 Forbidden", "", "")));
  EXPECT_EQ(origin_at(denying.url())->delete_image(id, user()).error().code, Errc::forbidden);
}

TEST(GlanceUploads, AnImageIsProtectedByAPatch) {
  RawServer server(always(answer("200 OK", "", "{}")));
  EXPECT_TRUE(origin_at(server.url())->protect_image(id, user()));
  EXPECT_TRUE(server.heads().at(0).starts_with(std::string("PATCH /v2/images/") + id + " HTTP/1.1"));
  EXPECT_NE(server.heads().at(0).find("Content-Type: application/openstack-images-v2.1-json-patch"), std::string::npos);
  EXPECT_EQ(json::parse(server.bodies().at(0)), json::parse(R"([{"op":"replace","path":"/protected","value":true}])"));
}

TEST(GlanceUploads, ARecordThatIsNoneIsRefused) {
  for (const char* body : {"", "{}", R"({"id": 3})", R"({"id": "../x"})", "<html></html>"}) {
    RawServer server(always(answer("201 Created", "", body)));
    const auto made = origin_at(server.url())->create_image({.name = "n"}, user());
    ASSERT_FALSE(made) << body;
    EXPECT_EQ(made.error().code, Errc::unavailable);
  }
}

}  // namespace
}  // namespace imagecache::origin
