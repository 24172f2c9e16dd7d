#include "api/volume_request.hpp"

#include <gtest/gtest.h>

#include "api/hook_request.hpp"

namespace imagecache::api {
namespace {

constexpr std::string_view image = "b8a4849c-1537-4574-badd-90de38482b5a";

std::string refused(std::string_view body, Microversion version = oldest_version) {
  const auto parsed = parse_volume_create(body, version);
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().code, Errc::invalid_argument);
  return parsed.error().message;
}

TEST(CreateBody, TakesWhatTheClientsSendWithNullForWhatTheyDoNotUse) {
  const auto body = parse_volume_create(
      R"({"volume": {"size": 1, "consistencygroup_id": null, "snapshot_id": null, "name": " disk ", "description": null,
          "volume_type": null, "availability_zone": null, "metadata": {"a": "b"},
          "imageRef": "b8a4849c-1537-4574-badd-90de38482b5a", "source_volid": null, "backup_id": null}})",
      oldest_version);
  ASSERT_TRUE(body) << body.error().message;
  EXPECT_EQ(body->size_gb, 1U);
  EXPECT_EQ(body->name, "disk");
  EXPECT_EQ(body->image_id, image);
  EXPECT_EQ(body->metadata.at("a"), "b");
}

TEST(CreateBody, AnImageMayBeAUrlOrHaveItsOlderName) {
  EXPECT_EQ(
      parse_volume_create(
          R"({"volume": {"size": "2", "imageRef": "http://glance/v2/images/B8A4849C-1537-4574-badd-90de38482b5a"}})",
          oldest_version)
          ->image_id,
      image);
  EXPECT_EQ(parse_volume_create(R"({"volume": {"size": 1, "image_id": "b8a4849c-1537-4574-badd-90de38482b5a"}})",
                                oldest_version)
                ->image_id,
            image);
}

TEST(CreateBody, AnImageByNameIsRefusedInCindersWords) {
  EXPECT_EQ(refused(R"({"volume": {"size": 1, "imageRef": "debian-12"}})"),
            "Invalid image identifier or unable to access requested image.");
}

TEST(CreateBody, AWrongSizeIsSaidAsClientsExpectIt) {
  EXPECT_EQ(refused(R"({"volume": {"size": 0}})"),
            "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1");
  EXPECT_EQ(refused(R"({"volume": {"size": -1}})"),
            "Invalid input for field/attribute size. Value: -1. -1 is less than the minimum of 1");
  EXPECT_EQ(refused(R"({"volume": {"size": "-1"}})"),
            "Invalid input for field/attribute size. Value: -1. -1 is less than the minimum of 1");
  EXPECT_EQ(refused(R"({"volume": {"size": "#$%"}})"),
            "Invalid input for field/attribute size. Value: #$%. '#$%' does not match '^[0-9]+$'");
  for (const char* size : {"1.5", "true", "[1]", "{}", "99999999999999999999", "\"99999999999999999999\"", "\"\""}) {
    EXPECT_NE(refused(std::string(R"({"volume": {"size": )") + size + "}}").find("field/attribute size"),
              std::string::npos)
        << size;
  }
  EXPECT_EQ(refused(R"({"volume": {"size": null}})"),
            "Invalid input received: Volume size 'None' must be an integer and greater than 0");
}

TEST(CreateBody, SourcesThatAreNotServedSayWhich) {
  for (const char* source : {"consistencygroup_id", "backup_id", "group_id"}) {
    const auto message = refused(std::string(R"({"volume": {"size": 1, ")") + source + R"(": "x"}})");
    EXPECT_NE(message.find(source), std::string::npos);
    EXPECT_NE(message.find("this service makes volumes from images and volumes, or empty"), std::string::npos);
  }
  const auto snapshot = parse_volume_create(R"({"volume": {"size": 1, "snapshot_id": "x"}})", {});
  ASSERT_FALSE(snapshot);
  EXPECT_EQ(snapshot.error().code, Errc::not_found);
  EXPECT_EQ(snapshot.error().message, "Snapshot x could not be found.");
}

TEST(CreateBody, ACopyMayLeaveItsSizeToItsSource) {
  const auto body = parse_volume_create(R"({"volume": {"source_volid": "x", "size": null}})", {});
  ASSERT_TRUE(body) << body.error().message;
  EXPECT_EQ(body->source_volid, "x");
  EXPECT_EQ(body->size_gb, 0U);
  EXPECT_EQ(refused(R"({"volume": {"size": 1, "source_volid": "x", "imageRef":
                      "b8a4849c-1537-4574-badd-90de38482b5a"}})"),
            "Invalid input received: May specify only one of snapshot, imageRef or source volume");
}

TEST(CreateBody, WhatIsNoObjectIsRefused) {
  EXPECT_EQ(refused("{"), "Malformed message body: cannot understand JSON");
  EXPECT_EQ(refused("[1]"), "Malformed message body: a JSON object is needed");
  EXPECT_EQ(refused("{}"), "'volume' is a required property");
  EXPECT_NE(refused(R"({"volume": 3})"), "accepted");
  EXPECT_NE(refused(R"({"volume": {"size": 1}, "extra": 1})").find("'extra' was unexpected"), std::string::npos);
  EXPECT_EQ(refused(R"({"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {}})"), "accepted");
}

TEST(CreateBody, UnknownKeysAreForbiddenFrom353On) {
  constexpr std::string_view body = R"({"volume": {"size": 1, "colour": "red"}})";
  EXPECT_EQ(refused(body, Microversion{3, 52}), "accepted");
  EXPECT_NE(refused(body, Microversion{3, 53}).find("'colour' was unexpected"), std::string::npos);
}

TEST(CreateBody, NamesAndMetadataHaveTheirLengths) {
  const std::string fits(255, 'x');
  EXPECT_EQ(refused(R"({"volume": {"size": 1, "name": ")" + fits + R"("}})"), "accepted");
  EXPECT_NE(refused(R"({"volume": {"size": 1, "name": ")" + fits + R"(x"}})").find("is too long"), std::string::npos);
  EXPECT_NE(refused(R"({"volume": {"size": 1, "metadata": {"": "x"}}})"), "accepted");
  EXPECT_NE(refused(R"({"volume": {"size": 1, "metadata": {"k": 1}}})"), "accepted");
  std::string wide;
  for (int i = 0; i < 255; ++i) wide += "\xc3\xa9";
  EXPECT_EQ(refused(R"({"volume": {"size": 1, "name": ")" + wide + R"("}})"), "accepted");
}

TEST(UpdateBody, SaysOnlyWhatIsToChange) {
  const auto body = parse_volume_update(R"({"volume": {"name": "new"}})", newest_version);
  ASSERT_TRUE(body);
  EXPECT_EQ(body->name, "new");
  EXPECT_FALSE(body->description);
  EXPECT_FALSE(body->metadata);
  EXPECT_TRUE(parse_volume_update(R"({"volume": {}})", Microversion{3, 52}));
  EXPECT_FALSE(parse_volume_update(R"({"volume": {}})", Microversion{3, 53}));
}

TEST(HookBody, TakesAWholeRequestAndIgnoresWhatItDoesNotKnow) {
  const auto request = parse_hook_request(
      R"({"backend": "lvm-1", "name": "volume-x", "size_gb": 3, "image_id": "B8A4849C-1537-4574-badd-90de38482b5a",
          "deadline_ms": 5000, "pool": "ssd", "project_id": "demo", "later": [1]})");
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->image_id, image);
  EXPECT_EQ(request->pool, "ssd");
  EXPECT_EQ(request->deadline, std::chrono::milliseconds(5000));
}

TEST(HookBody, WhatTheCallerHasReadOfTheImageCountsWhereItIsWhole) {
  const auto seen = [](const std::string& members) {
    return parse_hook_request(R"({"backend": "b", "name": "v", "size_gb": 1, "image_id": ")" + std::string(image) +
                              R"(", )" + members + "}");
  };
  const auto whole =
      seen(R"("image_updated_at": "2026-05-04T11:22:33Z", "image_checksum": "0f1e", "image_size": 5000000000)");
  ASSERT_TRUE(whole && whole->image_seen);
  EXPECT_EQ(whole->image_seen->updated_at, "2026-05-04T11:22:33Z");
  EXPECT_EQ(whole->image_seen->checksum, "0f1e");
  EXPECT_EQ(whole->image_seen->size_bytes, 5'000'000'000U);
  for (const char* part : {R"("image_updated_at": "2026-05-04T11:22:33Z", "image_checksum": "0f1e")",
                           R"("image_updated_at": "", "image_checksum": "0f1e", "image_size": 5)",
                           R"("image_updated_at": "2026-05-04T11:22:33Z", "image_checksum": null, "image_size": 5)"}) {
    const auto request = seen(part);
    ASSERT_TRUE(request) << part;
    EXPECT_FALSE(request->image_seen) << part;
  }
  for (const char* size : {"-1", "\"5\"", "1.5"}) {
    const auto request = seen(
        R"("image_updated_at": "2026-05-04T11:22:33Z", "image_checksum": "0f1e", "image_size": )" + std::string(size));
    ASSERT_FALSE(request) << size;
    EXPECT_NE(request.error().message.find("image_size"), std::string::npos);
  }
}

TEST(HookBody, ADeadlineBeyondAllClocksIsRefused) {
  for (const char* given : {"2147483648", "9223372036854775807", "18446744073709551615"}) {
    const auto request = parse_hook_request(
        R"({"backend": "b", "name": "v", "size_gb": 1, "image_id": "b8a4849c-1537-4574-badd-90de38482b5a", "deadline_ms": )" +
        std::string(given) + "}");
    ASSERT_FALSE(request) << given;
    EXPECT_NE(request.error().message.find("deadline_ms"), std::string::npos) << request.error().message;
  }
}

TEST(HookBody, NamesWhatIsMissingOrWrong) {
  const auto message = [](std::string_view body) {
    const auto request = parse_hook_request(body);
    return request ? std::string("accepted") : request.error().message;
  };
  EXPECT_NE(message(R"({"name": "v", "size_gb": 1, "image_id": "x"})").find("'backend'"), std::string::npos);
  EXPECT_NE(message(R"({"backend": "b", "name": "v", "image_id": "x"})").find("'size_gb'"), std::string::npos);
  EXPECT_NE(message(R"({"backend": "b", "name": "../etc", "size_gb": 1, "image_id": "x"})").find("../etc"),
            std::string::npos);
  EXPECT_NE(
      message(R"({"backend": "b", "pool": "h@b#p", "name": "v", "size_gb": 1, "image_id": "x"})").find("pool 'h@b"),
      std::string::npos);
  EXPECT_NE(message(R"({"backend": "b", "name": "v", "size_gb": 1, "image_id": "x"})").find("image_id 'x'"),
            std::string::npos);
  EXPECT_NE(
      message(R"({"backend": "b", "name": "v", "size_gb": 1, "image_id": "x", "deadline_ms": 0})").find("deadline_ms"),
      std::string::npos);
}

}  // namespace
}  // namespace imagecache::api
