// What takes a key manager is not made here: volumes of encrypted types, and of images whose signature is to be
// verified. Behind the hook it is left to Cinder, at the Block Storage API it is refused with the reason.
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

HttpAnswer create_of_type(Daemon& daemon, const std::string& image_id, const std::string& type) {
  return daemon.volume("POST", "/volumes", {{"volume", {{"size", 1}, {"imageRef", image_id}, {"volume_type", type}}}});
}

std::string add_signed(Daemon& daemon) {
  return daemon.origin.add({.content = Content::of(sparse_disk()),
                            .json = {{"img_signature", "\"c2lnbmVk\""},
                                     {"img_signature_hash_method", "\"SHA-256\""},
                                     {"img_signature_key_type", "\"RSA-PSS\""},
                                     {"img_signature_certificate_uuid", "\"5b1c9a52-7a42-4e4c-93e8-1f5c3f1b7a11\""}}});
}

void expect_left_to_cinder(const HttpAnswer& answer) {
  EXPECT_EQ(answer.status, 501) << answer.body;
  EXPECT_EQ(parsed(answer)["error"]["code"], "unsupported");
  EXPECT_EQ(parsed(answer)["error"]["fallback"], true);
}

TEST(VolumeRefused, OfAnEncryptedTypeThoughTheImageIsKept) {
  Daemon daemon;
  const auto image = add_image(daemon, sparse_disk());
  ASSERT_EQ(daemon.settle(daemon.create(image)), "available");
  const std::string type = parsed(daemon.volume(
      "POST", "/types",
      {{"volume_type",
        {{"name", "secret"}, {"extra_specs", {{"volume_backend_name", "file1"}}}}}}))["volume_type"]["id"];
  const std::string specs = "/types/" + type + "/encryption";
  EXPECT_EQ(parsed(daemon.volume("GET", specs)), json::object());
  EXPECT_EQ(daemon.volume("POST", specs, {{"encryption", {{"provider", "luks"}}}}).status, 400);
  EXPECT_EQ(daemon.volume("DELETE", specs + "/provider").status, 404);
  const json luks{
      {"provider", "luks"}, {"control_location", "front-end"}, {"key_size", 256}, {"cipher", "aes-xts-plain64"}};
  const auto made = daemon.volume("POST", specs, {{"encryption", luks}});
  EXPECT_EQ(made.status, 200);
  json said = parsed(made)["encryption"];
  EXPECT_EQ(said["volume_type_id"], type);
  EXPECT_TRUE(base::is_uuid(said["encryption_id"].get<std::string>()));
  said.erase("volume_type_id");
  said.erase("encryption_id");
  EXPECT_EQ(said, luks);
  EXPECT_EQ(daemon.volume("POST", specs, {{"encryption", luks}}).status, 400) << "it has some already";
  EXPECT_EQ(parsed(daemon.volume("GET", specs))["volume_type_id"], type);
  EXPECT_EQ(parsed(daemon.volume("GET", specs + "/key_size")), (json{{"key_size", 256}}));

  const auto refused = create_of_type(daemon, image, "secret");
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(message(refused).find("secret is encrypted"), std::string::npos) << refused.body;
  EXPECT_EQ(daemon.counters().volume_hits, 0U);
  EXPECT_EQ(daemon.volume_files(), 2U);
  const std::string plain = daemon.create(image);
  ASSERT_EQ(daemon.settle(plain), "available");
  EXPECT_EQ(daemon.volume("POST", "/volumes/" + plain + "/action", {{"os-retype", {{"new_type", "secret"}}}}).status,
            400);

  const std::string id = parsed(daemon.volume("GET", specs))["encryption_id"];
  EXPECT_EQ(daemon.volume("PUT", specs + "/" + id, {{"encryption", {{"key_size", 512}}}}).status, 200);
  EXPECT_EQ(parsed(daemon.volume("GET", specs))["key_size"], 512);
  EXPECT_EQ(daemon.volume("DELETE", specs + "/" + id).status, 202);
  EXPECT_EQ(create_of_type(daemon, image, "secret").status, 202);
  const auto in_use = daemon.volume("POST", specs, {{"encryption", luks}});
  EXPECT_EQ(in_use.status, 400);
  EXPECT_EQ(message(in_use), "Cannot create encryption specs. Volume type in use.");
}

TEST(VolumeRefused, AnEncryptedVolumeIsLeftToCinder) {
  Daemon daemon;
  const auto image = add_image(daemon, sparse_disk());
  const std::string id = base::new_uuid();
  json body{{"backend", "file1"}, {"name", "volume-" + id}, {"size_gb", 1}, {"image_id", image}, {"encrypted", true}};
  expect_left_to_cinder(hook(daemon, "PUT", id, body));
  EXPECT_EQ(daemon.volume_files(), 0U);
  body["encrypted"] = false;
  EXPECT_EQ(hook(daemon, "PUT", id, body).status, 200) << "nothing was left of the first try";
}

TEST(VolumeRefused, ASignedImageWhereSignaturesAreVerified) {
  Daemon daemon;
  const auto image = add_signed(daemon);
  const auto refused = create_request(daemon, image);
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(message(refused).find("is signed (img_signature)"), std::string::npos) << refused.body;
  expect_left_to_cinder(hook_create(daemon, base::new_uuid(), image));
  EXPECT_EQ(daemon.status("POST", "/v1/image-volumes", {{"image", image}, {"backend", "file1"}}).status, 501);
  EXPECT_EQ(daemon.origin.downloads(image), 0U);
  EXPECT_EQ(daemon.volume_files(), 0U);
}

TEST(VolumeRefused, ButNotWhereTheyAreDisabled) {
  Daemon daemon({.defaults = "verify_glance_signatures = disabled\n"});
  const auto image = add_signed(daemon);
  EXPECT_EQ(daemon.settle(daemon.create(image)), "available");
  EXPECT_EQ(hook_create(daemon, base::new_uuid(), image).status, 200);
}

}  // namespace
}  // namespace imagecache::test
