// hook_bind: the door for cinder-volume alone, and what it says of image-volumes.
#include "base/clock.hpp"
#include "service/volumes.hpp"
#include "unit/identity/scripted_keystone.hpp"

namespace imagecache::test {
namespace {

HttpAnswer at_hook(Daemon& daemon, std::string_view method, std::string_view target, const json& body = {}) {
  return http(daemon.service->hook_port(), method, target,
              {"Content-Type: application/json", "X-Auth-Token: a-users-token:not-read"},
              body.is_null() ? "" : body.dump());
}
json create_body(const std::string& id, const std::string& image) {
  return {{"backend", "file1"}, {"name", "volume-" + id}, {"size_gb", 1}, {"image_id", image}, {"project_id", "blue"}};
}
json listed(Daemon& daemon, std::string_view query = "?backend=file1") {
  return parsed(at_hook(daemon, "GET", "/v1/hook/image-volumes" + std::string(query)))["image_volumes"];
}

TEST(HookListener, ServesTheHookAndNothingElse) {
  Daemon daemon({.service = "hook_bind = 127.0.0.1:0\n"});
  const auto image = add_image(daemon, sparse_disk());
  const std::string id = base::new_uuid();
  EXPECT_EQ(at_hook(daemon, "PUT", "/v1/hook/volumes/" + id, create_body(id, image)).status, 200);
  daemon.origin.script(image, [](ImageScript& s) { s.describe.tokens["a-users-token:not-read"] = 403; });
  const auto denied = at_hook(daemon, "PUT", "/v1/hook/volumes/" + base::new_uuid(), create_body(id, image));
  EXPECT_EQ(denied.status, 403) << "the user's token is what the origin is asked with: " << denied.body;
  EXPECT_EQ(at_hook(daemon, "GET", "/healthcheck").status, 200);
  for (const auto* other : {"/v3/", "/v3/blue/volumes", "/v1/status", "/v1/image-volumes"})
    EXPECT_EQ(at_hook(daemon, "GET", other).status, 404) << other;
}

TEST(HookListener, TheServiceTokenBesideTheUsersGoesToTheOriginAndNowhereElse) {
  Daemon daemon({.service = "hook_bind = 127.0.0.1:0\n"});
  const auto image = add_image(daemon, sparse_disk());
  const std::string id = base::new_uuid();
  const auto made =
      http(daemon.service->hook_port(), "PUT", "/v1/hook/volumes/" + id,
           {"Content-Type: application/json", "X-Auth-Token: expired-meanwhile", "X-Service-Token: cinder-volumes-own"},
           create_body(id, image).dump());
  ASSERT_EQ(made.status, 200) << made.body;
  for (const auto& path : {"/v2/images/" + image, "/v2/images/" + image + "/file"}) {
    const auto asked = daemon.origin.last_request("GET", path);
    ASSERT_TRUE(asked) << path;
    EXPECT_EQ(asked->header("x-auth-token"), "expired-meanwhile") << path;
    EXPECT_EQ(asked->header("x-service-token"), "cinder-volumes-own") << path;
  }
  const std::string other = base::new_uuid();
  ASSERT_EQ(at_hook(daemon, "PUT", "/v1/hook/volumes/" + other, create_body(other, image)).status, 200);
  EXPECT_EQ(daemon.origin.last_request("GET", "/v2/images/" + image)->header("x-service-token"), "");
}

TEST(HookListener, UsersTokensDoNotOpenTheHookBesideTheVolumeApi) {
  const base::ManualClock clock(base::SystemClock().now());
  identity::ScriptedKeystone keystone(clock);
  keystone.add("a-users-token", {});
  keystone.add("an-admins-token", {.roles = {"admin"}});
  Daemon daemon(
      {.service = "hook_bind = 127.0.0.1:0\n[keystone_authtoken]\nauth_url = " + keystone.credentials().auth_url +
                  "\nusername = glance\npassword = secret\nuser_domain_name = Default\n"
                  "project_name = service\nproject_domain_name = Default\n",
       .defaults = "auth_strategy = keystone\n"});
  const auto image = add_image(daemon, sparse_disk());
  const std::string id = base::new_uuid();
  const auto ask = [&](std::string_view method, const std::string& target, const std::string& token) {
    return http(daemon.service->volume_api_port(), method, target,
                {"Content-Type: application/json", "X-Auth-Token: " + token},
                method == "PUT" ? create_body(id, image).dump() : "")
        .status;
  };
  const std::string volume = "/v1/hook/volumes/" + id;
  const std::string lists = "/v1/hook/image-volumes";
  for (const auto& [method, target] : std::vector<std::pair<std::string, std::string>>{
           {"PUT", volume}, {"GET", volume}, {"DELETE", volume}, {"GET", lists}, {"DELETE", lists + "/" + id}}) {
    EXPECT_EQ(ask(method, target, "nobodys-token"), 401) << method << " " << target;
    EXPECT_EQ(ask(method, target, "a-users-token"), 403) << method << " " << target;
  }
  EXPECT_EQ(ask("GET", lists, "an-admins-token"), 200);
  EXPECT_EQ(ask("PUT", volume, "an-admins-token"), 200);
  EXPECT_EQ(at_hook(daemon, "DELETE", volume).status, 204) << "and by hook_bind no token is asked for";
}

TEST(HookListener, ListsImageVolumesAndLetsThemGo) {
  Daemon daemon({.service = "hook_bind = 127.0.0.1:0\n"});
  const auto image = add_image(daemon, sparse_disk());
  EXPECT_TRUE(listed(daemon).empty());
  const std::string id = base::new_uuid();
  ASSERT_EQ(at_hook(daemon, "PUT", "/v1/hook/volumes/" + id, create_body(id, image)).status, 200);
  const json all = listed(daemon);
  ASSERT_EQ(all.size(), 1U) << all.dump();
  const std::string image_volume = all[0]["id"];
  EXPECT_EQ(all[0]["name"], "volume-" + image_volume) << "Cinder's row has this id, and so this name";
  EXPECT_EQ(all[0]["image_id"], image);
  EXPECT_EQ(all[0]["state"], "ready");
  EXPECT_EQ(all[0]["size_gb"], 1);
  EXPECT_EQ(listed(daemon, ""), all);
  EXPECT_EQ(at_hook(daemon, "GET", "/v1/hook/image-volumes?backend=other").status, 404)
      << "an empty list would make Cinder drop its rows";

  const std::string target = "/v1/hook/image-volumes/" + image_volume;
  EXPECT_EQ(at_hook(daemon, "DELETE", target).status, 204);
  expect_no_image_volume(daemon);
  EXPECT_EQ(at_hook(daemon, "DELETE", target).status, 404);
  EXPECT_EQ(at_hook(daemon, "DELETE", "/v1/hook/image-volumes/" + id).status, 404) << "a user's volume is none";
  EXPECT_EQ(at_hook(daemon, "DELETE", "/v1/hook/image-volumes/what").status, 400);
  EXPECT_TRUE(std::filesystem::exists(daemon.volume_file(id)));
}

TEST(HookListener, ListsWhatItHasMadeForCallersAndNothingElse) {
  Daemon daemon({.service = "hook_bind = 127.0.0.1:0\n"});
  const auto image = add_image(daemon, sparse_disk());
  std::vector<std::string> ids;
  for (int i = 0; i < 2; ++i) {
    ids.insert(ids.begin(), base::new_uuid());
    ASSERT_EQ(at_hook(daemon, "PUT", "/v1/hook/volumes/" + ids[0], create_body(ids[0], image)).status, 200);
  }
  ASSERT_EQ(create_request(daemon, image).status,
            202);  // the Block Storage API's is not the hook's; nor is the image-volume
  const auto page = [&](const std::string& query) {
    return parsed(at_hook(daemon, "GET", "/v1/hook/volumes" + query));
  };
  const json all = page("?backend=file1");
  ASSERT_EQ(all["volumes"].size(), 2U) << all.dump();
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(all["volumes"][i]["id"], ids[i]) << "the newest first";
    EXPECT_EQ(all["volumes"][i]["name"], "volume-" + ids[i]);
    EXPECT_EQ(all["volumes"][i]["status"], "available");
  }
  EXPECT_TRUE(all["next_marker"].is_null());
  EXPECT_EQ(page("?backend=file1&marker=" + ids[0])["volumes"].size(), 1U);
  EXPECT_EQ(at_hook(daemon, "GET", "/v1/hook/volumes?backend=other").status, 404);
  EXPECT_EQ(at_hook(daemon, "GET", "/v1/hook/volumes?backend=file1&marker=" + base::new_uuid()).status, 404);
}

}  // namespace
}  // namespace imagecache::test
