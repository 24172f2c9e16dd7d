// [keystone_authtoken], [service_user], [oslo_policy], [paste_deploy]: as keystonemiddleware, keystoneauth and
// oslo.policy read them.
#include <gmock/gmock.h>

#include "temp_files.hpp"

namespace imagecache::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class IdentityOptions : public TempFiles {};

TEST_F(IdentityOptions, HaveTheDefaultsOfTheirLibraries) {
  const auto config = load({});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_string(authtoken_section, "auth_type"), "password");
  EXPECT_EQ(config->get_int(authtoken_section, "token_cache_time"), 300);
  EXPECT_EQ(config->find_int(authtoken_section, "http_connect_timeout"), std::nullopt);
  EXPECT_THAT(config->get_list(authtoken_section, "service_token_roles"), ElementsAre("service"));
  EXPECT_FALSE(config->get_bool(service_user_section, "send_service_user_token"));
  EXPECT_EQ(config->get_string("oslo_policy", "policy_file"), "policy.yaml");
  EXPECT_THAT(config->get_list("oslo_policy", "policy_dirs"), ElementsAre("policy.d"));
  EXPECT_EQ(config->find_string(paste_section, "flavor"), std::nullopt);
  EXPECT_EQ(config->get_string("oslo_concurrency", "lock_path"), "");
}

TEST_F(IdentityOptions, PolicyDirsGivenInSeveralFilesAllCount) {
  const auto a = write("a.conf", "[oslo_policy]\npolicy_dirs = /a, with comma\npolicy_dirs = /b\n");
  const auto b = write("b.conf", "[oslo_policy]\npolicy_dirs = ${policy_file}.d\npolicy_file = p\n");
  using enum ConfigSource::Kind;
  const auto config = load({.sources = {{file, a}, {file, b}}, .environment = {}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->get_list("oslo_policy", "policy_dirs"), ElementsAre("/a, with comma", "/b", "p.d"));
}

TEST_F(IdentityOptions, PolicyDirsOfTheEnvironmentStandAlone) {
  const auto config = load({.sources = {{ConfigSource::Kind::file, write("a.conf", "[oslo_policy]\npolicy_dirs=/a\n")}},
                            .environment = {{"OS_OSLO_POLICY__POLICY_DIRS", "/e"}}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->get_list("oslo_policy", "policy_dirs"), ElementsAre("/e"));
}

TEST_F(IdentityOptions, OlderNamesAreRead) {
  const auto config = load_text(
      "[keystone_authtoken]\nauth_uri = http://k:5000\nauth_plugin = v3password\ntenant_name = service\nuser_name = "
      "u\n");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_string(authtoken_section, "www_authenticate_uri"), "http://k:5000");
  EXPECT_EQ(config->get_string(authtoken_section, "auth_type"), "v3password");
  EXPECT_EQ(config->get_string(authtoken_section, "project_name"), "service");
  EXPECT_EQ(config->get_string(authtoken_section, "username"), "u");
}

TEST_F(IdentityOptions, SecretsAreMaskedWhereverTheyCouldBeShown) {
  const auto config = load_text(
      "[keystone_authtoken]\npassword = hunter2\n[service_user]\npassword = hunter2\n"
      "application_credential_secret = hunter2\n");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get_string(authtoken_section, "password"), "hunter2");
  unsigned masked = 0;
  for (const auto& row : config->show()) {
    EXPECT_THAT(row.value, Not(HasSubstr("hunter2"))) << row.option;
    masked += row.value == "****" ? 1 : 0;
  }
  EXPECT_EQ(masked, 3U);
}

TEST_F(IdentityOptions, APasswordWithAStrayDollarIsRefusedWithoutItsText) {
  const auto message = problems_of("[keystone_authtoken]\npassword = hunter2$secret\n");
  EXPECT_EQ(message,
            "cinder.conf:2: [keystone_authtoken] password = ****: has a $ before a name that is not set; a dollar is "
            "written $$");
}

}  // namespace
}  // namespace imagecache::config
