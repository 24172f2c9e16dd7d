#include "api/volume_view.hpp"

#include <gtest/gtest.h>

namespace imagecache::api {
namespace {

catalog::Volume some_volume() {
  catalog::Volume volume;
  volume.id = "e8ede1c4-8a7d-48d7-95cb-3e96cf246b5a";
  volume.project_id = "demo";
  volume.user_id = "alice";
  volume.display_name = "disk";
  volume.host = "node@lvm-1#lvm-1";
  volume.volume_type = "lvm-1";
  volume.status = "available";
  volume.size_gb = 1;
  volume.availability_zone = "nova";
  volume.source_volume_id = "5b8f4f0e-0000-4000-8000-000000000001";
  volume.bootable = true;
  volume.image_metadata = {{"image_id", "b8a4849c-1537-4574-badd-90de38482b5a"}};
  volume.created_at = base::WallTime(std::chrono::microseconds(1'795'384'563'660'810));
  return volume;
}

VolumeViewOptions asked(Microversion version, VolumeDetail detail) {
  return {.version = version,
          .detail = detail,
          .is_admin = true,
          .base_url = "http://127.0.0.1:8787",
          .project_in_url = "demo",
          .volume_type_id = "88736b85-d55d-4773-9e91-cf08ff9fd7c2"};
}

std::vector<std::string> keys_of(const Json& json) {
  std::vector<std::string> keys;
  for (const auto& item : json.items()) keys.push_back(item.key());
  return keys;
}

// What cinder-api 21.3.1 answered at its newest version to an admin, key by key.
const std::vector<std::string> recorded_at_creation = {"id",
                                                       "status",
                                                       "size",
                                                       "availability_zone",
                                                       "created_at",
                                                       "updated_at",
                                                       "name",
                                                       "description",
                                                       "volume_type",
                                                       "snapshot_id",
                                                       "source_volid",
                                                       "metadata",
                                                       "links",
                                                       "user_id",
                                                       "bootable",
                                                       "encrypted",
                                                       "replication_status",
                                                       "consistencygroup_id",
                                                       "multiattach",
                                                       "attachments",
                                                       "migration_status",
                                                       "group_id",
                                                       "provider_id",
                                                       "shared_targets",
                                                       "service_uuid",
                                                       "cluster_name",
                                                       "volume_type_id",
                                                       "consumes_quota"};

TEST(VolumeView, HasTheKeysThatCinderAnswersToACreate) {
  EXPECT_EQ(keys_of(volume_view(some_volume(), asked(newest_version, VolumeDetail::brief))), recorded_at_creation);
}

TEST(VolumeView, ShowAddsTheKeysThatCinderAddsAndNoOthers) {
  auto expected = recorded_at_creation;
  for (const char* key : {"os-vol-tenant-attr:tenant_id", "os-vol-mig-status-attr:migstat",
                          "os-vol-mig-status-attr:name_id", "os-vol-host-attr:host", "volume_image_metadata"}) {
    expected.emplace_back(key);
  }
  EXPECT_EQ(keys_of(volume_view(some_volume(), asked(newest_version, VolumeDetail::full))), expected);
}

TEST(VolumeView, TheOldestVersionKnowsNoLaterKey) {
  const auto keys = keys_of(volume_view(some_volume(), asked(oldest_version, VolumeDetail::brief)));
  EXPECT_EQ(keys, std::vector<std::string>(recorded_at_creation.begin(), recorded_at_creation.begin() + 21));
}

TEST(VolumeView, AUserDoesNotSeeWhatOnlyAdminsSee) {
  auto options = asked(newest_version, VolumeDetail::full);
  options.is_admin = false;
  const Json view = volume_view(some_volume(), options);
  for (const char* key : {"migration_status", "provider_id", "cluster_name", "os-vol-host-attr:host",
                          "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id"}) {
    EXPECT_FALSE(view.contains(key)) << key;
  }
  EXPECT_EQ(view["os-vol-tenant-attr:tenant_id"], "demo");
}

TEST(VolumeView, TheImageVolumeBehindAVolumeIsNotShown) {
  const Json view = volume_view(some_volume(), asked(newest_version, VolumeDetail::full));
  EXPECT_TRUE(view["source_volid"].is_null());
  EXPECT_EQ(dump(view).find("5b8f4f0e"), std::string::npos);
}

TEST(VolumeView, SaysValuesAsCinderWritesThem) {
  const Json view = volume_view(some_volume(), asked(newest_version, VolumeDetail::full));
  EXPECT_EQ(view["bootable"], "true");
  EXPECT_EQ(view["created_at"], "2026-11-22T21:56:03.660810");
  EXPECT_TRUE(view["updated_at"].is_null());
  EXPECT_TRUE(view["description"].is_null());
  EXPECT_EQ(view["links"][0]["href"], "http://127.0.0.1:8787/v3/demo/volumes/e8ede1c4-8a7d-48d7-95cb-3e96cf246b5a");
  EXPECT_EQ(view["links"][1]["href"], "http://127.0.0.1:8787/demo/volumes/e8ede1c4-8a7d-48d7-95cb-3e96cf246b5a");
}

TEST(VolumeView, LinksHaveNoProjectWhereTheRequestHadNone) {
  auto options = asked(newest_version, VolumeDetail::full);
  options.project_in_url.clear();
  EXPECT_EQ(volume_summary_view(some_volume(), options)["links"][0]["href"],
            "http://127.0.0.1:8787/v3/volumes/e8ede1c4-8a7d-48d7-95cb-3e96cf246b5a");
}

TEST(VolumeView, AVolumeThatIsNoImagesHasNoImageMetadata) {
  auto volume = some_volume();
  volume.image_metadata.clear();
  EXPECT_FALSE(volume_view(volume, asked(newest_version, VolumeDetail::full)).contains("volume_image_metadata"));
}

TEST(VolumeView, ANameThatIsNoUtf8StillMakesJson) {
  auto volume = some_volume();
  volume.display_name = "\xff\xfe";
  const std::string text = dump(volume_view(volume, asked(newest_version, VolumeDetail::full)));
  EXPECT_NE(text.find("\xEF\xBF\xBD"), std::string::npos);
  EXPECT_TRUE(JsonIn::accept(text));
}

}  // namespace
}  // namespace imagecache::api
