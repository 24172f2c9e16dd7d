// The Block Storage API beside create and delete: attachments, an administrator's hand, types and who may use them,
// quota classes, services, messages. Codes and words are Cinder's.
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

HttpAnswer act(Daemon& daemon, const std::string& id, const char* action, const json& arguments = json::object()) {
  return daemon.volume("POST", "/volumes/" + id + "/action", {{action, arguments}});
}
std::string empty_volume(Daemon& daemon, const json& more = json::object()) {
  json volume{{"size", 1}, {"name", "v"}};
  volume.update(more);
  const auto answer = daemon.volume("POST", "/volumes", {{"volume", volume}});
  EXPECT_EQ(answer.status, 202) << answer.body;
  return answer.status == 202 ? parsed(answer)["volume"]["id"].get<std::string>() : "";
}
std::string available_volume(Daemon& daemon, const json& more = json::object()) {
  const auto id = empty_volume(daemon, more);
  EXPECT_EQ(daemon.settle(id), "available");
  return id;
}
HttpAnswer versioned(Daemon& daemon, std::string_view method, const std::string& target, const char* version) {
  return http(daemon.service->volume_api_port(), method, "/v3/admin" + target,
              {std::string("OpenStack-API-Version: volume ") + version}, "");
}
std::string new_type(Daemon& daemon, const json& body) {
  const auto answer = daemon.volume("POST", "/types", {{"volume_type", body}});
  EXPECT_EQ(answer.status, 200) << answer.body;
  return parsed(answer)["volume_type"]["id"];
}
std::string status_of(Daemon& daemon, const std::string& id) {
  return daemon.show(id)["status"];
}

TEST(BlockStorageApi, AComputeServiceTakesAVolumeAndGivesItBack) {
  Daemon daemon;
  const auto id = available_volume(daemon);
  const std::string server = base::new_uuid();
  EXPECT_EQ(act(daemon, id, "os-reserve").status, 202);
  EXPECT_EQ(status_of(daemon, id), "attaching");
  const auto twice = act(daemon, id, "os-reserve");
  EXPECT_EQ(twice.status, 400);
  EXPECT_EQ(message(twice), "Invalid volume: Volume status must be available to reserve, but the status is attaching.");
  const auto connected = act(daemon, id, "os-initialize_connection", {{"connector", {{"host", "h"}}}});
  EXPECT_EQ(connected.status, 200) << connected.body;
  EXPECT_EQ(act(daemon, id, "os-attach", {{"instance_uuid", server}, {"mountpoint", "/dev/vdb"}}).status, 202);
  daemon.restart();
  auto shown = daemon.show(id);
  EXPECT_EQ(shown["status"], "in-use");
  ASSERT_EQ(shown["attachments"].size(), 1U);
  EXPECT_EQ(shown["attachments"][0]["server_id"], server);
  EXPECT_EQ(shown["attachments"][0]["device"], "/dev/vdb");
  EXPECT_EQ(shown["attachments"][0]["volume_id"], id);
  EXPECT_EQ(shown["metadata"]["attached_mode"], "rw");
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 400);
  EXPECT_EQ(act(daemon, id, "os-force_delete").status, 400);
  EXPECT_EQ(act(daemon, id, "os-attach", {{"host_name", "other"}, {"mountpoint", "/dev/vdc"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-begin_detaching").status, 202);
  EXPECT_EQ(status_of(daemon, id), "detaching");
  EXPECT_EQ(act(daemon, id, "os-roll_detaching").status, 202);
  EXPECT_EQ(status_of(daemon, id), "in-use");
  EXPECT_EQ(act(daemon, id, "os-begin_detaching").status, 202);
  EXPECT_EQ(act(daemon, id, "os-terminate_connection", {{"connector", {{"host", "h"}}}}).status, 202);
  EXPECT_EQ(act(daemon, id, "os-detach", {{"attachment_id", shown["attachments"][0]["attachment_id"]}}).status, 202);
  shown = daemon.show(id);
  EXPECT_EQ(shown["status"], "available");
  EXPECT_TRUE(shown["attachments"].empty());
  EXPECT_EQ(act(daemon, id, "os-begin_detaching").status, 400);
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 202);
}

TEST(BlockStorageApi, AReservationIsGivenBackAndOnlyOnceTaken) {
  Daemon daemon;
  const auto id = available_volume(daemon);
  EXPECT_EQ(act(daemon, id, "os-unreserve").status, 202);
  EXPECT_EQ(status_of(daemon, id), "available");
  std::array<int, 8> answers{};
  {
    std::vector<std::jthread> clients;
    for (auto& status : answers) clients.emplace_back([&] { status = act(daemon, id, "os-reserve").status; });
  }
  EXPECT_EQ(std::ranges::count(answers, 202), 1);
  EXPECT_EQ(act(daemon, id, "os-unreserve").status, 202);
  EXPECT_EQ(status_of(daemon, id), "available");
  EXPECT_EQ(act(daemon, base::new_uuid(), "os-reserve").status, 404);
}

TEST(BlockStorageApi, AnImageVolumeIsNeitherReservedNorAttached) {
  Daemon daemon;
  ASSERT_EQ(daemon.settle(daemon.create(add_image(daemon, sparse_disk()))), "available");
  const std::string id = image_volumes(daemon).at(0)["id"];
  const auto refused = act(daemon, id, "os-reserve");
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(message(refused).find("is an image-volume"), std::string::npos) << refused.body;
  EXPECT_EQ(act(daemon, id, "os-attach", {{"host_name", "h"}, {"mountpoint", "/dev/vdb"}, {"mode", "ro"}}).status, 400);
  EXPECT_EQ(status_of(daemon, id), "available");
}

TEST(BlockStorageApi, AReadOnlyVolumeIsAttachedForReadingOnly) {
  Daemon daemon;
  const auto id = available_volume(daemon);
  EXPECT_EQ(act(daemon, id, "os-update_readonly_flag", {{"readonly", true}}).status, 202);
  const json rw{{"host_name", "h"}, {"mountpoint", "/dev/vdb"}, {"mode", "rw"}};
  const auto refused = act(daemon, id, "os-attach", rw);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(message(refused), "Invalid attaching mode 'rw' for volume " + id + ".");
  json ro = rw;
  ro["mode"] = "ro";
  EXPECT_EQ(act(daemon, id, "os-attach", ro).status, 202);
  EXPECT_EQ(daemon.show(id)["metadata"]["attached_mode"], "ro");
  EXPECT_EQ(act(daemon, id, "os-update_readonly_flag", {{"readonly", false}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-force_detach").status, 202);
  EXPECT_EQ(status_of(daemon, id), "available");
  EXPECT_EQ(act(daemon, id, "os-attach", {{"mountpoint", "/dev/vdb"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-attach", {{"host_name", "h"}, {"mountpoint", ""}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-attach", {{"instance_uuid", "no"}, {"mountpoint", "/dev/vdb"}}).status, 400);
}

TEST(BlockStorageApi, AStatusSetByHandLosesNoBytesOverARestart) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto id = daemon.create(add_image(daemon, raw));
  ASSERT_EQ(daemon.settle(id), "available");
  for (const char* status : {"creating", "attaching", "maintenance", "error", "extending", "uploading"}) {
    EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", status}}).status, 202) << status;
    EXPECT_EQ(status_of(daemon, id), status);
  }
  daemon.restart();
  EXPECT_EQ(status_of(daemon, id), "error");
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "available"}}).status, 202);
  EXPECT_EQ(status_of(daemon, id), "available");
  EXPECT_EQ(message(act(daemon, id, "os-reset_status", {{"status", "in-use"}})),
            "Cannot reset-state to in-use because volume does not have any attachments.");
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "deleting"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "excellent"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-reset_status").status, 400);
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "attaching"}}).status, 202);
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 400);
  EXPECT_EQ(act(daemon, id, "os-force_delete").status, 202);
  EXPECT_EQ(daemon.settle(id), "gone");
  EXPECT_FALSE(std::filesystem::exists(daemon.volume_file(id)));
}

TEST(BlockStorageApi, AVolumeDetachedByForceHasNoStatusSetByHandAnyMore) {
  Daemon daemon;
  const auto id = available_volume(daemon);
  ASSERT_EQ(act(daemon, id, "os-attach", {{"host_name", "h"}, {"mountpoint", "/dev/vdb"}}).status, 202);
  ASSERT_EQ(act(daemon, id, "os-reset_status", {{"status", "error"}}).status, 202);
  EXPECT_NE(daemon.service->volumes().catalog().find_volume(id).value()->status_reason, "");
  ASSERT_EQ(act(daemon, id, "os-force_detach").status, 202);
  EXPECT_EQ(daemon.service->volumes().catalog().find_volume(id).value()->status_reason, "");
}

TEST(BlockStorageApi, WhatCouldNotBeDeletedIsNotCalledAvailable) {
  Daemon daemon;
  const auto id = available_volume(daemon);
  auto& catalog = daemon.service->volumes().catalog();
  ASSERT_TRUE(catalog.update_volume(id, {.status = "error_deleting", .status_reason = "the disk is on fire"}));
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "error_deleting"}}).status, 202);
  for (const char* status : {"available", "error", "error_extending"})
    EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", status}}).status, 400) << status;
  // An extend that failed leaves it whole.
  ASSERT_TRUE(catalog.update_volume(id, {.status = "error_extending", .status_reason = "no room"}));
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "error"}}).status, 202);
  EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", "available"}}).status, 202);
  EXPECT_EQ(status_of(daemon, id), "available");
}

TEST(BlockStorageApi, AVolumeIsCopiedFromAnother) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto source = daemon.create(add_image(daemon, raw));
  ASSERT_EQ(daemon.settle(source), "available");
  const auto id = empty_volume(daemon, {{"source_volid", source}, {"size", 2}});
  ASSERT_EQ(daemon.settle(id), "available");
  const auto shown = daemon.show(id);
  EXPECT_EQ(shown["source_volid"], source);
  EXPECT_EQ(shown["bootable"], "true");
  EXPECT_EQ(shown["volume_image_metadata"], daemon.show(source)["volume_image_metadata"]);
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 2));
  // Without a size, as large as its source.
  const auto same = daemon.volume("POST", "/volumes", {{"volume", {{"source_volid", id}}}});
  EXPECT_EQ(same.status, 202);
  EXPECT_EQ(parsed(same)["volume"]["size"], 2);
  EXPECT_EQ(daemon.volume("POST", "/volumes", {{"volume", {{"source_volid", id}, {"size", 1}}}}).status, 400);
  const std::string unknown = base::new_uuid();
  EXPECT_EQ(daemon.volume("POST", "/volumes", {{"volume", {{"source_volid", unknown}, {"size", 1}}}}).status, 404);
  EXPECT_EQ(message(daemon.volume("POST", "/volumes", {{"volume", {{"snapshot_id", unknown}, {"size", 1}}}})),
            "Snapshot " + unknown + " could not be found.");
}

TEST(BlockStorageApi, WhatNoBackendCanServeFailsAndTheProjectFindsAMessage) {
  Daemon daemon;
  const auto type = new_type(daemon, {{"name", "odd"}, {"extra_specs", {{"vendor_name", "nobody"}}}});
  const auto id = empty_volume(daemon, {{"volume_type", type}});
  ASSERT_EQ(daemon.settle(id), "error");
  EXPECT_TRUE(daemon.show(id)["os-vol-host-attr:host"].is_null());
  // It has no data, and no way leads round that.
  for (const char* status : {"available", "error_extending", "error_deleting", "maintenance", "creating"})
    EXPECT_EQ(act(daemon, id, "os-reset_status", {{"status", status}}).status, 400) << status;
  daemon.restart();
  EXPECT_EQ(versioned(daemon, "GET", "/messages", "3.0").status, 404);
  const json messages = parsed(versioned(daemon, "GET", "/messages", "3.3"))["messages"];
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0]["resource_uuid"], id);
  EXPECT_EQ(messages[0]["event_id"], "VOLUME_VOLUME_001_003");
  EXPECT_EQ(messages[0]["user_message"], "schedule allocate volume:Could not find any available weighted backend.");
  const auto target = "/messages/" + messages[0]["id"].get<std::string>();
  EXPECT_EQ(parsed(versioned(daemon, "GET", target, "3.3"))["message"], messages[0]);
  EXPECT_TRUE(parsed(versioned(daemon, "GET", "/messages?resource_uuid=other", "3.5"))["messages"].empty());
  EXPECT_EQ(parsed(versioned(daemon, "GET", "/messages?limit=1", "3.5"))["messages"].size(), 1U);
  EXPECT_EQ(versioned(daemon, "DELETE", target, "3.3").status, 204);
  EXPECT_EQ(versioned(daemon, "GET", target, "3.3").status, 404);
}

TEST(BlockStorageApi, ADefaultTypeThatOnlyCinderHasKeepsNobodyFromAVolume) {
  Daemon daemon({.defaults = "default_volume_type = __DEFAULT__\n"});
  EXPECT_EQ(daemon.settle(daemon.create(add_image(daemon, sparse_disk()))), "available");
  const auto shown = daemon.volume("GET", "/types/default");
  EXPECT_EQ(shown.status, 404);
  EXPECT_EQ(message(shown), "Default volume type can not be found.");
  const json named{{"volume", {{"size", 1}, {"volume_type", "__DEFAULT__"}}}};
  const auto refused = daemon.volume("POST", "/volumes", named);
  EXPECT_EQ(refused.status, 404);
  EXPECT_EQ(message(refused), "Volume type with name __DEFAULT__ could not be found.");
}

TEST(BlockStorageApi, ServicesAreDisabledEnabledFrozenAndThawed) {
  Daemon daemon;
  const auto service = [&] { return parsed(daemon.volume("GET", "/os-services?binary=cinder-volume"))["services"][0]; };
  EXPECT_EQ(service()["host"], "testhost@file1");
  const auto disabled =
      daemon.volume("PUT", "/os-services/disable-log-reason",
                    {{"host", "testhost@file1"}, {"binary", "cinder-volume"}, {"disabled_reason", "disks"}});
  EXPECT_EQ(disabled.status, 200) << disabled.body;
  EXPECT_EQ(parsed(disabled)["status"], "disabled");
  daemon.restart();
  EXPECT_EQ(service()["status"], "disabled");
  EXPECT_EQ(service()["disabled_reason"], "disks");
  EXPECT_EQ(parsed(daemon.volume("GET", "/os-hosts"))["hosts"].size(), 1U);  // the scheduler's
  EXPECT_EQ(daemon.settle(empty_volume(daemon)), "error");
  const json known{{"host", "testhost@file1"}, {"binary", "cinder-volume"}};
  EXPECT_EQ(daemon.volume("PUT", "/os-services/enable", known).status, 200);
  EXPECT_EQ(service()["status"], "enabled");
  EXPECT_TRUE(service()["disabled_reason"].is_null());
  EXPECT_EQ(daemon.volume("PUT", "/os-services/freeze", {{"host", "testhost@file1"}}).status, 200);
  EXPECT_TRUE(service()["frozen"].get<bool>());
  EXPECT_EQ(daemon.volume("PUT", "/os-services/thaw", {{"host", "testhost@file1"}}).status, 200);
  available_volume(daemon);
  const json chooser{{"host", "testhost"}, {"binary", "cinder-scheduler"}};
  EXPECT_EQ(daemon.volume("PUT", "/os-services/disable", chooser).status, 200);
  EXPECT_EQ(daemon.settle(empty_volume(daemon)), "error");
  EXPECT_EQ(daemon.volume("PUT", "/os-services/enable", chooser).status, 200);
  EXPECT_EQ(parsed(daemon.volume("GET", "/os-services?host=testhost"))["services"].size(), 2U);
  EXPECT_EQ(parsed(daemon.volume("GET", "/os-services?host=testhost@file1%23file1"))["services"].size(), 1U);
  EXPECT_EQ(daemon.volume("PUT", "/os-services/disable", {{"host", "h"}, {"binary", "cinder-volume"}}).status, 404);
  EXPECT_EQ(daemon.volume("PUT", "/os-services/disable", {{"host", "testhost@file1"}, {"binary", "x"}}).status, 404);
  EXPECT_EQ(daemon.volume("PUT", "/os-services/disable-log-reason", known).status, 400);
  EXPECT_EQ(daemon.volume("PUT", "/os-services/thaw", {{"host", "h"}}).status, 400);
  EXPECT_EQ(daemon.volume("PUT", "/os-services/dance", known).status, 400);
}

TEST(BlockStorageApi, HostsPoolsAndCapabilitiesSayTheSameOfABackend) {
  Daemon daemon;
  available_volume(daemon);
  const json hosts = parsed(daemon.volume("GET", "/os-hosts"))["hosts"];
  ASSERT_EQ(hosts.size(), 2U);
  EXPECT_EQ(hosts[0]["host_name"], "testhost");
  EXPECT_EQ(hosts[0]["service"], "cinder-scheduler");
  EXPECT_EQ(hosts[1]["host_name"], "testhost@file1");
  const json resources = parsed(daemon.volume("GET", "/os-hosts/testhost@file1"))["host"];
  ASSERT_EQ(resources.size(), 2U);
  EXPECT_EQ(resources[0]["resource"]["project"], "(total)");
  EXPECT_EQ(resources[0]["resource"]["volume_count"], "1");
  EXPECT_EQ(resources[1]["resource"]["total_volume_gb"], "1");
  EXPECT_EQ(daemon.volume("GET", "/os-hosts/elsewhere").status, 404);
  const json pool = parsed(daemon.volume("GET", "/scheduler-stats/get_pools?detail=True"))["pools"][0];
  for (const char* host : {"testhost@file1", "testhost@file1%23file1"}) {
    const json capabilities = parsed(daemon.volume("GET", "/capabilities/" + std::string(host)));
    for (const char* key : {"vendor_name", "volume_backend_name", "storage_protocol", "driver_version"})
      EXPECT_EQ(capabilities[key], pool["capabilities"][key]) << key;
  }
  EXPECT_EQ(daemon.volume("GET", "/capabilities/elsewhere").status, 404);
}

TEST(BlockStorageApi, AnAdministratorSaysWhichProjectsHaveAccessToAType) {
  Daemon daemon;
  const auto id = new_type(daemon, {{"name", "private"}, {"os-volume-type-access:is_public", false}});
  const auto list = [&] { return parsed(daemon.volume("GET", "/types/" + id + "/os-volume-type-access")); };
  EXPECT_TRUE(list()["volume_type_access"].empty());
  const auto change = [&](const char* action, const char* project) {
    return daemon.volume("POST", "/types/" + id + "/action", {{action, {{"project", project}}}}).status;
  };
  EXPECT_EQ(change("addProjectAccess", "p1"), 202);
  EXPECT_EQ(change("addProjectAccess", "p1"), 409);
  ASSERT_EQ(list()["volume_type_access"].size(), 1U);
  EXPECT_EQ(list()["volume_type_access"][0]["project_id"], "p1");
  EXPECT_EQ(list()["volume_type_access"][0]["volume_type_id"], id);
  EXPECT_EQ(change("removeProjectAccess", "p1"), 202);
  EXPECT_EQ(change("removeProjectAccess", "p1"), 404);
  EXPECT_EQ(change("dance", "p1"), 400);
  const auto open = new_type(daemon, {{"name", "open"}});
  EXPECT_EQ(daemon.volume("GET", "/types/" + open + "/os-volume-type-access").status, 404);
}

TEST(BlockStorageApi, TheAnswersOfTypesHaveCindersKeysAndNoOthers) {
  Daemon daemon;
  const auto created = parsed(daemon.volume("POST", "/types", {{"volume_type", {{"name", "gold"}}}}))["volume_type"];
  EXPECT_FALSE(created.contains("qos_specs_id"));
  EXPECT_TRUE(created.contains("os-volume-type-access:is_public"));
  const auto target = "/types/" + created["id"].get<std::string>();
  const auto updated = parsed(daemon.volume("PUT", target, {{"volume_type", {{"name", "iron"}}}}))["volume_type"];
  EXPECT_FALSE(updated.contains("qos_specs_id"));
  EXPECT_FALSE(updated.contains("os-volume-type-access:is_public"));
  EXPECT_TRUE(parsed(daemon.volume("GET", target))["volume_type"].contains("qos_specs_id"));
}

TEST(BlockStorageApi, AVolumeIsRetypedWhereItIs) {
  Daemon daemon;
  const auto id = available_volume(daemon);
  new_type(daemon, {{"name", "gold"}, {"extra_specs", {{"volume_backend_name", "file1"}}}});
  new_type(daemon, {{"name", "away"}, {"extra_specs", {{"volume_backend_name", "elsewhere"}}}});
  EXPECT_EQ(act(daemon, id, "os-retype", {{"new_type", "gold"}, {"migration_policy", "never"}}).status, 202);
  EXPECT_EQ(daemon.show(id)["volume_type"], "gold");
  EXPECT_EQ(in_use(daemon, "admin", "volumes_gold"), 1U);
  EXPECT_EQ(act(daemon, id, "os-retype", {{"new_type", "gold"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-retype", {{"new_type", "away"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-retype", {{"new_type", "none"}}).status, 400);
  EXPECT_EQ(act(daemon, id, "os-retype", {{"new_type", "gold"}, {"migration_policy", "maybe"}}).status, 400);
}

TEST(BlockStorageApi, APolicyFileSaysWhoMay) {
  const TempDir directory;
  const auto file = directory / "policy.yaml";
  std::ofstream(file) << "\"volume:create\": \"!\"\n\"volume:retype\": \"!\"\n\"volume_extension:hosts\": \"!\"\n"
                      << "\"volume:freeze_host\": \"!\"\n";
  Daemon daemon({.backend = "[oslo_policy]\npolicy_file = " + file.native() + "\n"});
  const auto refused = daemon.volume("POST", "/volumes", {{"volume", {{"size", 1}}}});
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(message(refused), "Policy doesn't allow volume:create to be performed.");
  const auto id = daemon.create(add_image(daemon, sparse_disk()));  // volume:create_from_image is another rule
  ASSERT_EQ(daemon.settle(id), "available");
  EXPECT_EQ(message(act(daemon, id, "os-retype", {{"new_type", "x"}})),
            "Policy doesn't allow volume:retype to be performed.");
  EXPECT_EQ(daemon.volume("GET", "/os-hosts").status, 403);
  EXPECT_EQ(daemon.volume("GET", "/os-services").status, 200);
  const json host{{"host", "testhost@file1"}};
  EXPECT_EQ(daemon.volume("PUT", "/os-services/freeze", host).status, 403);
  EXPECT_EQ(daemon.volume("PUT", "/os-services/thaw", host).status, 200);
}

TEST(BlockStorageApi, TheDefaultQuotaClassIsForEveryProjectAndSurvivesARestart) {
  Daemon daemon;
  const json wanted{{"volumes", 7}, {"gigabytes_no-such-type", 3}};
  const auto set = daemon.volume("PUT", "/os-quota-class-sets/default", {{"quota_class_set", wanted}});
  ASSERT_EQ(set.status, 200) << set.body;
  EXPECT_EQ(parsed(set)["quota_class_set"]["volumes"], 7);
  EXPECT_EQ(parsed(set)["quota_class_set"]["gigabytes_no-such-type"], 3);
  EXPECT_FALSE(parsed(set)["quota_class_set"].contains("id"));
  daemon.restart();
  EXPECT_EQ(parsed(daemon.volume("GET", "/os-quota-class-sets/default"))["quota_class_set"]["volumes"], 7);
  EXPECT_EQ(parsed(daemon.volume("GET", "/os-quota-sets/anybody"))["quota_set"]["volumes"], 7);
  EXPECT_EQ(parsed(daemon.volume("GET", "/os-quota-sets/anybody/defaults"))["quota_set"]["volumes"], 7);
  EXPECT_EQ(daemon.volume("PUT", "/os-quota-class-sets/default", {{"quota_class_set", {{"apples", 1}}}}).status, 400);
  EXPECT_EQ(daemon.volume("PUT", "/os-quota-class-sets/default", {{"quota_class_set", {{"volumes", -2}}}}).status, 400);
}

}  // namespace
}  // namespace imagecache::test
