#include "api/quota_view.hpp"

#include <gtest/gtest.h>

#include "api/html.hpp"
#include "api/volume_types.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

std::vector<catalog::VolumeType> one_type() {
  return {{.id = "1", .name = "nfs1", .description = "", .is_public = true, .extra_specs = {}}};
}

TEST(QuotaView, HasCindersResourcesInCindersOrder) {
  const Json view = quota_view(complete_quota({{"volumes", {.limit = 500, .in_use = 3}}}, one_type()), false, "demo");
  std::vector<std::string> keys;
  for (const auto& item : view.items()) keys.push_back(item.key());
  EXPECT_EQ(keys, (std::vector<std::string>{"volumes", "per_volume_gigabytes", "snapshots", "gigabytes", "backups",
                                            "backup_gigabytes", "volumes_nfs1", "gigabytes_nfs1", "snapshots_nfs1",
                                            "groups", "id"}));
  EXPECT_EQ(view["volumes"], 500);
  EXPECT_EQ(view["volumes_nfs1"], -1);
}

TEST(QuotaView, UsageIsAnObjectForEachResource) {
  const Json view =
      quota_view(complete_quota({{"gigabytes", {.limit = 5000, .in_use = 6, .reserved = 1}}}, {}), true, "demo");
  EXPECT_EQ(dump(view["gigabytes"]), R"({"limit":5000,"in_use":6,"reserved":1})");
  EXPECT_EQ(dump(view["per_volume_gigabytes"]), R"({"limit":-1,"in_use":0,"reserved":0})");
}

TEST(QuotaView, ATypeThatIsNoLongerListedIsShownWhileItsVolumesCount) {
  const Json view = quota_view(
      complete_quota({{"volumes_old", {.limit = -1, .in_use = 1}}, {"volumes_gone", {.limit = -1, .in_use = 0}}}, {}),
      true, "demo");
  EXPECT_EQ(view["volumes_old"]["in_use"], 1);
  EXPECT_FALSE(view.contains("volumes_gone"));
}

std::string refused(const char* body, const std::map<std::string, catalog::QuotaUsage>& rows = {}) {
  const auto limits = parse_limits(JsonIn::parse(body), complete_quota(rows, one_type()));
  return limits ? "accepted" : limits.error().message;
}

TEST(QuotaLimits, AreKnownResourcesAndWholeNumbersFromMinusOneOn) {
  EXPECT_EQ(refused(R"({"volumes": 20, "gigabytes_nfs1": -1, "tenant_id": "demo", "snapshots": "7"})"), "accepted");
  EXPECT_NE(refused(R"({"colours": 1})").find("colours"), std::string::npos);
  for (const char* body : {R"({"volumes": -2})", R"({"volumes": 2147483648})", R"({"volumes": 1.5})",
                           R"({"volumes": "many"})", R"({"volumes": true})"}) {
    EXPECT_NE(refused(body), "accepted") << body;
  }
}

TEST(QuotaLimits, AreNotSetBelowWhatIsUsed) {
  EXPECT_NE(refused(R"({"volumes": 3})", {{"volumes", {.limit = 10, .in_use = 3, .reserved = 1}}}), "accepted");
  EXPECT_EQ(refused(R"({"volumes": 4})", {{"volumes", {.limit = 10, .in_use = 3, .reserved = 1}}}), "accepted");
}

TEST(Limits, AreTheTenThatClientsKnow) {
  const Json view = limits_view(complete_quota({{"volumes", {.limit = 5, .in_use = 2}}}, {}));
  const Json& absolute = view["limits"]["absolute"];
  EXPECT_EQ(absolute.size(), 10U);
  EXPECT_EQ(absolute["maxTotalVolumes"], 5);
  EXPECT_EQ(absolute["totalVolumesUsed"], 2);
  EXPECT_TRUE(view["limits"]["rate"].empty());
}

TEST(TypeView, UsersSeeOnlyTheSpecsMeantForThem) {
  const catalog::VolumeType type{.id = "1",
                                 .name = "fast",
                                 .description = "",
                                 .is_public = true,
                                 .extra_specs = {{"volume_backend_name", "lvm-1"}, {"multiattach", "<is> False"}}};
  EXPECT_EQ(dump(type_view(type, false)["extra_specs"]), R"({"multiattach":"<is> False"})");
  EXPECT_EQ(type_view(type, true)["extra_specs"].size(), 2U);
  EXPECT_FALSE(type_view(type, false).contains("qos_specs_id"));
}

TEST(BackendType, HasTheSameUuidOnEveryStart) {
  EXPECT_TRUE(base::is_uuid(id_of_backend_type("lvm-1")));
  EXPECT_EQ(id_of_backend_type("lvm-1"), id_of_backend_type("lvm-1"));
  EXPECT_NE(id_of_backend_type("lvm-1"), id_of_backend_type("lvm-2"));
}

TEST(StatusPage, AHostileNameIsText) {
  const std::string html = table({"Image"}, {{"<script>alert(\"x\")</script>'&"}});
  EXPECT_EQ(html.find("<script>"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;"), std::string::npos);
}

}  // namespace
}  // namespace imagecache::api
