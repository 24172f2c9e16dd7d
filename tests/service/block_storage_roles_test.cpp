// Who may do what in the Block Storage API, with a real Keystone's answers: members and readers of projects, and the
// types that are not for everybody.
#include <optional>

#include "base/clock.hpp"
#include "service/volumes.hpp"
#include "unit/identity/scripted_keystone.hpp"

namespace imagecache::test {
namespace {

class Cloud {
 public:
  explicit Cloud(const std::string& more = {}) {
    keystone_.add("admin", {.user = "root", .project = "cloud", .roles = {"admin"}});
    keystone_.add("blue", {.user = "alice", .project = "blue", .roles = {"member", "reader"}});
    keystone_.add("red", {.user = "bob", .project = "red", .roles = {"member", "reader"}});
    keystone_.add("blue-reader", {.user = "carol", .project = "blue", .roles = {"reader"}});
    daemon_.emplace(DaemonOptions{.service = "[keystone_authtoken]\nauth_url = " + keystone_.credentials().auth_url +
                                             "\nusername = glance\npassword = secret\nuser_domain_name = Default\n"
                                             "project_name = service\nproject_domain_name = Default\n" +
                                             more,
                                  .defaults = "auth_strategy = keystone\n"});
  }

  HttpAnswer ask(const std::string& token, std::string_view method, const std::string& target, const json& body = {}) {
    return http(daemon_->service->volume_api_port(), method, "/v3" + target,
                {"Content-Type: application/json", "X-Auth-Token: " + token}, body.is_null() ? "" : body.dump());
  }
  HttpAnswer act(const std::string& token, const std::string& id, const char* action, const json& arguments) {
    return ask(token, "POST", "/volumes/" + id + "/action", {{action, arguments}});
  }
  std::string new_type(const json& type) {
    const auto answer = ask("admin", "POST", "/types", {{"volume_type", type}});
    EXPECT_EQ(answer.status, 200) << answer.body;
    return parsed(answer)["volume_type"]["id"];
  }
  HttpAnswer create(const std::string& token, const json& more = json::object()) {
    json volume{{"size", 1}};
    volume.update(more);
    return ask(token, "POST", "/volumes", {{"volume", volume}});
  }
  /// The id, once it is available.
  std::string created(const std::string& token, const json& more = json::object()) {
    const auto answer = create(token, more);
    EXPECT_EQ(answer.status, 202) << answer.body;
    if (answer.status != 202) return "";
    const std::string id = parsed(answer)["volume"]["id"];
    std::string status = "creating";
    while (status == "creating") status = parsed(ask(token, "GET", "/volumes/" + id))["volume"]["status"];
    EXPECT_EQ(status, "available");
    return id;
  }
  std::vector<std::string> types(const std::string& token) {
    std::vector<std::string> names;
    for (const json& type : parsed(ask(token, "GET", "/types"))["volume_types"]) names.push_back(type["name"]);
    return names;
  }

 private:
  const base::ManualClock clock_{base::SystemClock().now()};
  identity::ScriptedKeystone keystone_{clock_};
  std::optional<Daemon> daemon_;
};

TEST(BlockStorageRoles, WhatATypeSaysOfEncryptionIsShownToThoseWhoMayUseIt) {
  // Cinder's policy lets administrators only; where the operator opens it, it is opened for those who may use the type.
  const TempDir files;
  const auto policy = files / "policy.yaml";
  std::ofstream(policy) << "\"volume_extension:volume_type_encryption:get\": \"\"\n";
  for (const bool is_open : {false, true}) {
    SCOPED_TRACE(is_open);
    Cloud cloud(is_open ? "[oslo_policy]\npolicy_file = " + policy.native() + "\n" : "");
    const json luks{{"provider", "luks"}, {"control_location", "front-end"}, {"key_size", 256}, {"cipher", "aes"}};
    const auto shared = cloud.new_type({{"name", "shared"}});
    const auto hidden = cloud.new_type({{"name", "hidden"}, {"os-volume-type-access:is_public", false}});
    for (const auto& type : {shared, hidden}) {
      const std::string specs = "/types/" + type + "/encryption";
      EXPECT_EQ(cloud.ask("blue", "POST", specs, {{"encryption", luks}}).status, 403);
      const auto made = cloud.ask("admin", "POST", specs, {{"encryption", luks}});
      ASSERT_EQ(made.status, 200);
      EXPECT_EQ(parsed(made)["encryption"]["volume_type_id"], type);
      EXPECT_EQ(parsed(made)["encryption"]["encryption_id"], parsed(cloud.ask("admin", "GET", specs))["encryption_id"]);
      EXPECT_EQ(parsed(cloud.ask("admin", "GET", specs))["key_size"], 256);
      EXPECT_EQ(cloud.ask("blue", "PUT", specs + "/provider", {{"encryption", {{"key_size", 512}}}}).status, 403);
      EXPECT_EQ(cloud.ask("blue", "DELETE", specs + "/provider").status, 403);
    }
    const auto seen = [&](const std::string& type, const std::string& what = "") {
      return cloud.ask("blue", "GET", "/types/" + type + "/encryption" + what).status;
    };
    EXPECT_EQ(seen(shared), is_open ? 200 : 403);
    EXPECT_EQ(seen(shared, "/cipher"), is_open ? 200 : 403);
    EXPECT_EQ(seen(hidden), is_open ? 404 : 403) << "a type that is not for them is not there";
    EXPECT_EQ(seen(hidden, "/cipher"), is_open ? 404 : 403);
    if (!is_open) continue;
    const json access{{"addProjectAccess", {{"project", "blue"}}}};
    ASSERT_EQ(cloud.ask("admin", "POST", "/types/" + hidden + "/action", access).status, 202);
    EXPECT_EQ(seen(hidden), 200);
    EXPECT_EQ(seen(hidden, "/cipher"), 200);
    EXPECT_EQ(cloud.ask("red", "GET", "/types/" + hidden + "/encryption").status, 404);
  }
}

TEST(BlockStorageRoles, OfATypesExtraSpecsUsersSeeThoseThatAreForThem) {
  Cloud cloud;
  const auto id = cloud.new_type(
      {{"name", "gold"}, {"extra_specs", {{"volume_backend_name", "file1"}, {"multiattach", "<is> True"}}}});
  const auto seen = [&](const std::string& token) {
    return parsed(cloud.ask(token, "GET", "/types/" + id))["volume_type"];
  };
  EXPECT_EQ(seen("blue")["extra_specs"], (json{{"multiattach", "<is> True"}}))
      << "which backend it is, is nobody's business";
  EXPECT_FALSE(seen("blue").contains("qos_specs_id"));
  EXPECT_EQ(seen("admin")["extra_specs"].size(), 2U);
  EXPECT_TRUE(seen("admin").contains("qos_specs_id"));
  // Who names none gets the type of the first backend.
  EXPECT_EQ(parsed(cloud.ask("blue", "GET", "/types/default"))["volume_type"]["id"], id);
}

TEST(BlockStorageRoles, ATypeThatIsNotPublicIsForTheProjectsThatHaveAccess) {
  Cloud cloud;
  const auto before = cloud.created("red");
  const auto id = cloud.new_type({{"name", "gold"}, {"os-volume-type-access:is_public", false}});
  const auto refused = cloud.create("blue", {{"volume_type", "gold"}});
  EXPECT_EQ(refused.status, 404);
  EXPECT_EQ(message(refused), "Volume type with name gold could not be found.");
  EXPECT_EQ(cloud.ask("blue", "GET", "/types/" + id).status, 404);
  EXPECT_TRUE(cloud.types("blue").empty());
  EXPECT_EQ(cloud.ask("blue", "POST", "/types/" + id + "/action", {{"addProjectAccess", {{"project", "blue"}}}}).status,
            403);
  ASSERT_EQ(
      cloud.ask("admin", "POST", "/types/" + id + "/action", {{"addProjectAccess", {{"project", "blue"}}}}).status,
      202);
  EXPECT_EQ(cloud.types("blue"), std::vector<std::string>{"gold"});
  const auto volume = cloud.created("blue", {{"volume_type", "gold"}});
  EXPECT_EQ(parsed(cloud.ask("blue", "GET", "/volumes/" + volume))["volume"]["volume_type"], "gold");
  EXPECT_EQ(cloud.create("red", {{"volume_type", id}}).status, 404);
  EXPECT_EQ(cloud.act("red", before, "os-retype", {{"new_type", "gold"}}).status, 400);
  EXPECT_EQ(cloud.create("admin", {{"volume_type", "gold"}}).status, 202);
}

TEST(BlockStorageRoles, OnceThereAreTypesABackendsOwnNameIsNoWayRoundThem) {
  Cloud cloud;
  const auto before = cloud.created("blue", {{"volume_type", "file1"}});
  const std::string own = parsed(cloud.ask("blue", "GET", "/types"))["volume_types"][0]["id"];
  cloud.new_type({{"name", "gold"},
                  {"os-volume-type-access:is_public", false},
                  {"extra_specs", {{"volume_backend_name", "file1"}}}});
  cloud.new_type({{"name", "iron"}});
  for (const std::string& name : {std::string("file1"), own}) {
    EXPECT_EQ(cloud.create("blue", {{"volume_type", name}}).status, 404) << name;
    EXPECT_EQ(cloud.ask("blue", "GET", "/types/" + name).status, 404) << name;
  }
  const auto other = cloud.created("blue", {{"volume_type", "iron"}});
  EXPECT_EQ(cloud.act("blue", other, "os-retype", {{"new_type", "file1"}}).status, 400);
  // What has it has it: it is shown, and copied where it is.
  EXPECT_EQ(parsed(cloud.ask("blue", "GET", "/volumes/" + before))["volume"]["volume_type"], "file1");
  const auto copy = cloud.created("blue", {{"source_volid", before}});
  EXPECT_EQ(parsed(cloud.ask("blue", "GET", "/volumes/" + copy))["volume"]["volume_type"], "file1");
}

TEST(BlockStorageRoles, AReaderDoesAsMembersDoUntilTheNewDefaultsAreEnforced) {
  Cloud older;
  const auto volume = older.created("blue-reader");
  EXPECT_EQ(older.ask("blue-reader", "DELETE", "/volumes/" + volume).status, 202);
  Cloud newer("[oslo_policy]\nenforce_new_defaults = true\n");
  const auto kept = newer.created("blue");
  EXPECT_EQ(newer.create("blue-reader").status, 403);
  EXPECT_EQ(newer.ask("blue-reader", "GET", "/volumes/" + kept).status, 200);
  EXPECT_EQ(newer.ask("blue-reader", "DELETE", "/volumes/" + kept).status, 403);
  EXPECT_EQ(newer.ask("blue", "DELETE", "/volumes/" + kept).status, 202);
}

}  // namespace
}  // namespace imagecache::test
