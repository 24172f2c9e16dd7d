#include "api/errors.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace imagecache::api {
namespace {

std::string header(const Reply& reply, const std::string& name) {
  const auto found = std::ranges::find(reply.headers, name, &http::Header::first);
  return found == reply.headers.end() ? "" : found->second;
}

TEST(Fault, NamesEachKindAsCinderDoes) {
  const std::vector<std::tuple<Errc, unsigned, std::string>> expected = {
      {Errc::invalid_argument, 400, "badRequest"},  {Errc::forbidden, 403, "forbidden"},
      {Errc::not_found, 404, "itemNotFound"},       {Errc::already_exists, 409, "conflictingRequest"},
      {Errc::conflict, 400, "badRequest"},          {Errc::unacceptable_image, 400, "badRequest"},
      {Errc::quota_exceeded, 413, "overLimit"},     {Errc::unsupported, 501, "notImplemented"},
      {Errc::busy, 503, "serviceUnavailable"},      {Errc::unavailable, 503, "serviceUnavailable"},
      {Errc::no_space, 507, "computeFault"},        {Errc::timeout, 504, "computeFault"},
      {Errc::internal, 500, "computeFault"},        {Errc::corrupt, 500, "computeFault"},
      {Errc::cancelled, 409, "conflictingRequest"},
  };
  for (const auto& [code, status, name] : expected) {
    const Reply reply = fault(Error{code, "the reason"});
    EXPECT_EQ(reply.status, status) << to_string(code);
    const auto json = JsonIn::parse(reply.body);
    ASSERT_TRUE(json.contains(name)) << reply.body;
    EXPECT_EQ(json[name]["code"], status);
    EXPECT_EQ(json[name]["message"], "the reason");
  }
}

TEST(Fault, OverTheQuotaSaysWhenToRetryAsCinderDoes) {
  const Reply reply = fault(Error{Errc::quota_exceeded, "VolumeLimitExceeded: …"});
  EXPECT_EQ(header(reply, "Retry-After"), "0");
  EXPECT_EQ(JsonIn::parse(reply.body)["overLimit"]["retryAfter"], "0");
}

TEST(Fault, NobodyIsToldAsKeystonesMiddlewareSaysIt) {
  const Reply reply = fault(Error{Errc::unauthenticated, "the token secret-token is not valid"});
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(JsonIn::parse(reply.body)["error"]["title"], "Unauthorized");
  EXPECT_EQ(reply.body.find("secret-token"), std::string::npos);
  EXPECT_TRUE(header(reply, "WWW-Authenticate").starts_with("Keystone"));
}

TEST(HookError, OnlyTheImagesOwnFaultForbidsCinderToTry) {
  for (int code = 0; code <= static_cast<int>(Errc::internal); ++code) {
    const auto errc = static_cast<Errc>(code);
    const Reply reply = hook_error(Error{errc, "why"});
    const auto json = JsonIn::parse(reply.body)["error"];
    EXPECT_EQ(json["code"], to_string(errc));
    EXPECT_EQ(json["fallback"], errc != Errc::unacceptable_image) << to_string(errc);
    EXPECT_GE(reply.status, 400U);
  }
}

TEST(ManagementError, SaysAConflictAsAConflict) {
  EXPECT_EQ(management_error(Error{Errc::conflict, "it is being built"}).status, 409U);
}

}  // namespace
}  // namespace imagecache::api
