// Every JSON body that the Block Storage API, the hook and the management API take, with each of its values made
// another, in a fixed order: whatever a client sends has an answer that says what is wrong with it, and never a failure
// of ours. How bodies are parsed is fuzzed in tests/fuzz; here it is what is made of them.
#include "service/rig.hpp"
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

struct Body {
  std::string method, path;
  json whole;
};

/// What may stand in the place of any value.
const std::vector<std::string>& instead() {
  static const std::vector<std::string> texts{"null",
                                              "true",
                                              "-1",
                                              "0",
                                              "1.5",
                                              "1e999",
                                              "18446744073709551616",
                                              "9223372036854775807",
                                              "\"\"",
                                              "\" \"",
                                              "\"-1\"",
                                              "\"" + std::string(70'000, 'x') + "\"",
                                              R"("\u0000")",
                                              R"("\ud800")",
                                              "\"\xff\xfe\"",
                                              "[]",
                                              "{}",
                                              "[[[]]]",
                                              R"({"": {"a": [null, {}]}})",
                                              std::string(2000, '[') + std::string(2000, ']')};
  return texts;
}

/// `whole` with each value in turn marked; the mark's text stands for it.
void mark_each(const json& whole, const std::function<void(const std::string& text)>& use) {
  constexpr const char* mark = "@here@";
  const json flat = whole.flatten();
  std::set<std::string> places;
  for (const auto& [pointer, value] : flat.items()) {
    // The value and all that it is in.
    for (std::string place = pointer; !place.empty(); place.resize(place.rfind('/'))) places.insert(place);
  }
  for (const std::string& place : places) {
    json changed = whole;
    changed[json::json_pointer(place)] = mark;
    use(changed.dump());
  }
  json more = whole;
  more["more"] = mark;
  use(more.dump());
}

class JsonBodies : public ::testing::Test {
 protected:
  JsonBodies() {
    image_ = add_image(daemon_, "an image that is no disk");
    const auto made = daemon_.volume("POST", "/volumes", {{"volume", {{"size", 1}}}});
    EXPECT_EQ(made.status, 202) << made.body;
    id_ = json::parse(made.body)["volume"]["id"];
    EXPECT_EQ(daemon_.settle(id_), "available");
  }
  void send(const Body& body, const std::string& text) {
    const bool is_v3 = !body.path.starts_with("/v1/");
    const auto answer = http(daemon_.service->volume_api_port(), body.method, (is_v3 ? "/v3/admin" : "") + body.path,
                             {"Content-Type: application/json", "OpenStack-API-Version: volume 3.70"}, text);
    ++sent_;
    // 501: what is not made here. 503: too much at once. 504: not in the time that was given.
    EXPECT_TRUE(answer.status >= 200 && (answer.status < 500 || answer.status == 501 || answer.status >= 503))
        << body.method << " " << body.path << " " << text.substr(0, 200) << ": " << answer.status << " " << answer.body;
    if (answer.status >= 400) EXPECT_FALSE(json::parse(answer.body, nullptr, false).is_discarded()) << answer.body;
  }
  void send_all(const std::vector<Body>& bodies) {
    for (const Body& body : bodies) {
      mark_each(body.whole, [&](const std::string& marked) {
        for (const std::string& value : instead()) {
          std::string text = marked;
          text.replace(text.find("\"@here@\""), 8, value);
          send(body, text);
        }
      });
      const std::string whole = body.whole.dump();
      for (const std::string& text :
           {std::string(), std::string("null"), std::string("[]"), std::string("{}"), std::string("{\"a\":"),
            whole + whole, "[" + whole + "]", "\xef\xbb\xbf" + whole, std::string(100'000, '[')})
        send(body, text);
      for (std::size_t length = 0; length < whole.size(); length += 7) send(body, whole.substr(0, length));
    }
    EXPECT_GT(sent_, bodies.size() * instead().size());
    EXPECT_EQ(daemon_.volume("GET", "/volumes/" + id_).status, 200) << "what the others are about is still there";
  }

  Daemon daemon_{{.defaults = "quota_gigabytes = 20\n"}};
  std::string image_, id_;
  std::size_t sent_ = 0;
};

TEST_F(JsonBodies, OfVolumes) {
  send_all({{"POST",
             "/volumes",
             {{"volume",
               {{"size", 1},
                {"imageRef", image_},
                {"name", "n"},
                {"description", "d"},
                {"volume_type", "file1"},
                {"availability_zone", "nova"},
                {"metadata", {{"a", "b"}}},
                {"source_volid", nullptr},
                {"snapshot_id", nullptr},
                {"consistencygroup_id", nullptr},
                {"multiattach", false}}},
              {"OS-SCH-HNT:scheduler_hints", {{"same_host", "x"}}}}},
            {"PUT", "/volumes/" + id_, {{"volume", {{"name", "n"}, {"description", "d"}, {"metadata", {{"a", "b"}}}}}}},
            {"POST", "/volumes/" + id_ + "/metadata", {{"metadata", {{"a", "b"}}}}},
            {"PUT", "/volumes/" + id_ + "/metadata", {{"metadata", {{"a", "b"}}}}},
            {"PUT", "/volumes/" + id_ + "/metadata/a", {{"meta", {{"a", "b"}}}}}});
}

TEST_F(JsonBodies, OfActions) {
  const std::string path = "/volumes/" + id_ + "/action";
  std::vector<Body> bodies;
  for (const json& action : std::vector<json>{
           {{"os-extend", {{"new_size", 2}}}},
           {{"os-set_bootable", {{"bootable", true}}}},
           {{"os-update_readonly_flag", {{"readonly", false}}}},
           {{"os-reset_status",
             {{"status", "available"}, {"attach_status", "detached"}, {"migration_status", "none"}}}},
           {{"os-force_detach", {{"attachment_id", "x"}, {"connector", {{"host", "h"}}}}}},
           {{"os-initialize_connection", {{"connector", {{"host", "h"}, {"initiator", "iqn.x"}, {"ip", "::1"}}}}}},
           {{"os-terminate_connection", {{"connector", {{"host", "h"}}}}}},
           {{"os-reserve", {{"a", 1}}}},
           {{"os-unreserve", nullptr}},
           {{"os-attach", {{"instance_uuid", image_}, {"mountpoint", "/dev/vdb"}, {"mode", "rw"}, {"host_name", "h"}}}},
           {{"os-detach", {{"attachment_id", "x"}}}},
           {{"os-begin_detaching", {{"a", 1}}}},
           {{"os-roll_detaching", {{"a", 1}}}},
           {{"os-show_image_metadata", {{"a", 1}}}},
           {{"os-set_image_metadata", {{"metadata", {{"os_distro", "debian"}}}}}},
           {{"os-unset_image_metadata", {{"key", "os_distro"}}}},
           {{"os-retype", {{"new_type", "file1"}, {"migration_policy", "never"}}}},
           {{"os-volume_upload_image",
             {{"image_name", "i"},
              {"force", false},
              {"disk_format", "raw"},
              {"container_format", "bare"},
              {"visibility", "private"},
              {"protected", false}}}}})
    bodies.push_back({"POST", path, action});
  send_all(bodies);
}

TEST_F(JsonBodies, OfTypesQuotasAndServices) {
  const auto made = daemon_.volume("POST", "/types", {{"volume_type", {{"name", "kept"}}}});
  ASSERT_EQ(made.status, 200) << made.body;
  const std::string type = "/types/" + json::parse(made.body)["volume_type"]["id"].get<std::string>();
  const json encryption{
      {"encryption",
       {{"provider", "luks"}, {"cipher", "aes-xts-plain64"}, {"key_size", 256}, {"control_location", "front-end"}}}};
  const json type_body{{"volume_type",
                        {{"name", "t"},
                         {"description", "d"},
                         {"os-volume-type-access:is_public", true},
                         {"is_public", true},
                         {"extra_specs", {{"volume_backend_name", "file1"}}}}}};
  send_all({{"POST", "/types", type_body},
            {"PUT", type, type_body},
            {"POST", type + "/action", {{"addProjectAccess", {{"project", "p"}}}}},
            {"POST", type + "/action", {{"removeProjectAccess", {{"project", "p"}}}}},
            {"POST", type + "/extra_specs", {{"extra_specs", {{"a", "b"}}}}},
            {"PUT", type + "/extra_specs/a", {{"a", "b"}}},
            {"POST", type + "/encryption", encryption},
            {"PUT", type + "/encryption/provider", encryption},
            {"PUT", "/os-quota-sets/p", {{"quota_set", {{"volumes", 3}, {"gigabytes_kept", -1}}}}},
            {"PUT", "/os-quota-class-sets/default", {{"quota_class_set", {{"volumes", 3}, {"class_name", "default"}}}}},
            {"PUT", "/os-services/enable", {{"binary", "cinder-volume"}, {"host", "testhost@none"}}},
            {"PUT",
             "/os-services/disable-log-reason",
             {{"binary", "cinder-volume"}, {"host", "testhost@none"}, {"disabled_reason", "r"}}},
            {"PUT", "/os-services/freeze", {{"host", "testhost@none"}}}});
}

TEST_F(JsonBodies, OfTheHookAndOfManagement) {
  send_all({{"PUT",
             "/v1/hook/volumes/b8a4849c-1537-4574-badd-90de38482b5a",
             {{"backend", "file1"},
              {"pool", "p"},
              {"name", "volume-b8a4849c-1537-4574-badd-90de38482b5a"},
              {"size_gb", 1},
              {"image_id", "00000000-1537-4574-badd-90de38482b5a"},
              {"volume_type", "t"},
              {"project_id", "p"},
              {"user_id", "u"},
              {"display_name", "d"},
              {"encrypted", true},
              {"deadline_ms", 1}}},
            {"POST", "/v1/image-volumes", {{"image", "00000000-1537-4574-badd-90de38482b5a"}, {"backend", "file1"}}}});
}

}  // namespace
}  // namespace imagecache::test
