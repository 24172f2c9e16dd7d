// Options that do not go together, and what a daemon needs that a command line does not.
#include "config/serving.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include "temp_files.hpp"

namespace imagecache::config {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Serve : public TempFiles {
 protected:
  Result<Serving> serving(const std::string& text) const {
    const auto config = load_text(text);
    EXPECT_TRUE(config) << config.error().message;
    return check_serving(*config, {.directories = {}});
  }
  std::string mistakes(const std::string& text) const {
    const auto result = serving(text);
    auto message = result ? "none" : result.error().message;
    const auto prefix = directory_.native() + "/";
    for (auto at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
      message.erase(at, prefix.size());
    }
    return message;
  }
  std::vector<std::string> warnings(const std::string& text) const {
    const auto config = load_text(text);
    EXPECT_TRUE(config) << config.error().message;
    auto all = config->warnings();
    for (auto& one : all) one.erase(0, directory_.native().size() + 1);
    return all;
  }

  const std::string origin_ = "[image_cache_service]\norigin = file:///srv\n";
  const std::string keystone_ =
      "[keystone_authtoken]\nauth_url = http://k:5000\nusername = u\npassword = hunter2\nuser_domain_name = D\n"
      "project_name = service\nproject_domain_name = D\n";
};

TEST_F(Serve, NoauthNeedsNothing) {
  const auto result = serving("[DEFAULT]\nauth_strategy = noauth\n");
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_THAT(result->warnings, IsEmpty());
  EXPECT_FALSE(result->pipeline.known);
}

TEST_F(Serve, KeystoneNeedsCredentialsAndSaysWhich) {
  EXPECT_EQ(
      mistakes(""),
      "auth_strategy = keystone, the default: [keystone_authtoken] needs auth_url, username, password, "
      "user_domain_name, project_name, project_domain_name; or write [DEFAULT] auth_strategy = noauth, with which "
      "every caller is an administrator");
  EXPECT_EQ(mistakes("[DEFAULT]\nauth_strategy = keystone\n[keystone_authtoken]\nauth_url = http://k\nuser_id = u\n"
                     "project_id = p\n"),
            "auth_strategy = keystone: [keystone_authtoken] needs password");
  EXPECT_EQ(mistakes(keystone_), "none");
}

TEST_F(Serve, APipelineThatChecksTokensNeedsThemThoughTheVolumeApiDoesNot) {
  EXPECT_EQ(mistakes("[DEFAULT]\nauth_strategy = noauth\n[paste_deploy]\nflavor = keystone\n[keystone_authtoken]\n"
                     "auth_url = k:5000\nusername=u\npassword=p\nuser_domain_id=d\nsystem_scope=all\n"),
            "cinder.conf:6: [keystone_authtoken] auth_url = k:5000: must begin with http:// or https://");
  EXPECT_THAT(mistakes("[DEFAULT]\nauth_strategy = noauth\n[paste_deploy]\nflavor = keystone\n"),
              HasSubstr("the pipeline glance-api-keystone checks tokens: [keystone_authtoken] needs auth_url"));
}

TEST_F(Serve, AnApplicationCredentialIsEnough) {
  EXPECT_EQ(mistakes("[keystone_authtoken]\nauth_type = v3applicationcredential\nauth_url = https://k/\n"
                     "application_credential_id = i\n"),
            "auth_strategy = keystone, the default: [keystone_authtoken] needs application_credential_secret; or write "
            "[DEFAULT] auth_strategy = noauth, with which every caller is an administrator");
  EXPECT_EQ(mistakes("[keystone_authtoken]\nauth_type = v3applicationcredential\nauth_url = https://k/\n"
                     "application_credential_id = i\napplication_credential_secret = s\n"),
            "none");
}

TEST_F(Serve, AWayToKeystoneThatWeDoNotKnowIsRefused) {
  EXPECT_EQ(mistakes("[keystone_authtoken]\nauth_type = v3oidcpassword\n"),
            "cinder.conf:2: [keystone_authtoken] auth_type = v3oidcpassword: must be one of password, v3password, "
            "v3applicationcredential");
}

TEST_F(Serve, AuthSectionLeadsToTheCredentialsOfAnotherSection) {
  const auto config = load_text(
      "[keystone_authtoken]\nauth_section = Shared\nusername = mine\ncafile = /ca\n[shared]\nusername = theirs\n"
      "password = pa$$word\ncafile = /other\n");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_string(authtoken_section, "username"), "theirs");
  EXPECT_EQ(config->get_string(authtoken_section, "password"), "pa$word");
  EXPECT_EQ(config->get_string(authtoken_section, "cafile"), "/ca");
  EXPECT_EQ(config->get_string(service_user_section, "username"), "");
}

TEST_F(Serve, AServiceUserNeedsCredentialsOnlyWhereItsTokenIsSent) {
  EXPECT_EQ(mistakes(keystone_ + "[service_user]\nauth_url = http://k\n"), "none");
  EXPECT_THAT(mistakes(keystone_ + "[service_user]\nsend_service_user_token = true\nauth_url = http://k\n"),
              HasSubstr("send_service_user_token = true: [service_user] needs username, password"));
}

TEST_F(Serve, TlsFilesMustBeThereAndBeReadable) {
  const auto key = write("key.pem", "k");
  const auto text = "[DEFAULT]\nauth_strategy = noauth\n[image_cache_service]\ntls_cert_file = " +
                    (directory_ / "none.pem").native() + "\ntls_key_file = " + key.native() +
                    "\ntls_client_ca_file = " + directory_.native() + "\n";
  const auto message = mistakes(text);
  EXPECT_THAT(message, HasSubstr("cinder.conf:4: [image_cache_service] tls_cert_file = none.pem: cannot be read: "));
  EXPECT_THAT(message, HasSubstr("tls_client_ca_file = " + directory_.native() + ": is not a file"));
}

TEST_F(Serve, AKeyThatEverybodyReadsIsWarnedOf) {
  const auto key = write("key.pem", "k");
  const auto text = "[DEFAULT]\nauth_strategy = noauth\n[image_cache_service]\ntls_cert_file = " + key.native() +
                    "\ntls_key_file = " + key.native() + "\n";
  std::filesystem::permissions(key, std::filesystem::perms(0644));
  auto result = serving(text);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_THAT(result->warnings, ElementsAre(HasSubstr("everybody on this host can read it")));
  std::filesystem::permissions(key, std::filesystem::perms(0640));
  result = serving(text);
  ASSERT_TRUE(result);
  EXPECT_THAT(result->warnings, IsEmpty());
}

TEST_F(Serve, APipelineWithoutTokensIsForThisHostOnly) {
  const std::string text = keystone_ + "[DEFAULT]\nimage_cache_dir = /c\n[paste_deploy]\nflavor = caching\n";
  EXPECT_EQ(mistakes(text), "none");
  EXPECT_THAT(
      mistakes(text + "[image_cache_service]\nimage_api_bind = 0.0.0.0:9292\n"),
      HasSubstr("image_api_bind = 0.0.0.0:9292: the pipeline glance-api-caching of Glance's pipelines as shipped "
                "checks no tokens"));
  EXPECT_EQ(
      mistakes(text + "[image_cache_service]\nimage_api_bind = 0.0.0.0:9292\nallow_noauth_on_any_address = yes\n"),
      "none");
}

TEST_F(Serve, ACacheDirectoryThatThePipelineDoesNotUseIsWarnedOf) {
  const auto result = serving(keystone_ + "[DEFAULT]\nimage_cache_dir = /c\n[paste_deploy]\nflavor = keystone\n");
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_FALSE(result->pipeline.caches);
  EXPECT_THAT(result->warnings,
              ElementsAre(HasSubstr("the pipeline glance-api-keystone of Glance's pipelines as shipped "
                                    "has no cache: requests for images are passed on")));
}

TEST_F(Serve, AllMistakesAreToldAtOnce) {
  const auto message = mistakes(
      "[DEFAULT]\nauth_strategy = keystone\n[paste_deploy]\nflavor = cachemanage\n[image_cache_service]\ntls_cert_file "
      "= "
      "/none\ntls_key_file = /none\n");
  EXPECT_EQ(std::ranges::count(message, '\n'), 3) << message;
}

TEST_F(Serve, CertificateAndKeyGoTogether) {
  EXPECT_EQ(problems_of("[image_cache_service]\ntls_cert_file = /c\n"),
            "cinder.conf:2: [image_cache_service] tls_cert_file = /c: needs tls_key_file too");
  EXPECT_EQ(problems_of("[image_cache_service]\ntls_key_file = /k\ntls_client_ca_file = /a\n"),
            "cinder.conf:2: [image_cache_service] tls_key_file = /k: needs tls_cert_file too\n"
            "cinder.conf:3: [image_cache_service] tls_client_ca_file = /a: needs tls_cert_file too");
}

TEST_F(Serve, TheLowMarkIsBelowTheHighOne) {
  EXPECT_EQ(problems_of("[image_cache_service]\nprune_high_percent = 90\n"),
            "cinder.conf:2: [image_cache_service] prune_high_percent = 90: prune_low_percent (95) must be less than "
            "prune_high_percent (90)");
  EXPECT_EQ(problems_of("[image_cache_service]\nprune_high_percent = 90\nprune_low_percent = 80\n"), "");
}

TEST_F(Serve, SoItIsForImageVolumes) {
  EXPECT_EQ(
      problems_of("[image_cache_service]\nimage_volume_high_percent = 80\n"),
      "cinder.conf:2: [image_cache_service] image_volume_high_percent = 80: image_volume_low_percent (90) must be "
      "less than image_volume_high_percent (80)");
  EXPECT_EQ(problems_of("[image_cache_service]\nimage_volume_high_percent = 80\nimage_volume_low_percent = 70\n"), "");
}

TEST_F(Serve, WarmingAheadHasItsHours) {
  EXPECT_EQ(
      problems_of("[image_cache_service]\nimage_volume_warm_until_hour = 0\n"),
      "cinder.conf:2: [image_cache_service] image_volume_warm_until_hour = 0: from 0 to 0 is no time at all; write "
      "0 and 24 for the whole day");
  EXPECT_NE(problems_of("[image_cache_service]\nimage_volume_warm_from_hour = 24\nimage_volume_warm_until_hour = 0\n"),
            "");
  EXPECT_EQ(problems_of("[image_cache_service]\nimage_volume_warm_from_hour = 22\nimage_volume_warm_until_hour = 6\n"),
            "");
}

TEST_F(Serve, TheCentralDatabaseOfGlanceIsLeftAlone) {
  EXPECT_THAT(
      warnings(origin_ + "[DEFAULT]\nimage_cache_driver = Centralized_DB\n"),
      ElementsAre("cinder.conf:4: [DEFAULT] image_cache_driver = centralized_db: the books of the image cache are "
                  "kept in cache.db in image_cache_dir; Glance's own database is not touched"));
}

TEST_F(Serve, DiablosNamesAreWarnedOfWithTodays) {
  EXPECT_THAT(
      warnings(origin_ + "[DEFAULT]\nimage_cache_enabled = True\nimage_cache_datadir = /d\n"
                         "image_cache_stall_timeout = 5\n"),
      ElementsAre("cinder.conf:4: [DEFAULT] image_cache_enabled: is of an older release and has no effect; write "
                  "[paste_deploy] flavor = caching or keystone+caching",
                  "cinder.conf:5: [DEFAULT] image_cache_datadir: is of an older release and has no effect; write "
                  "image_cache_dir",
                  HasSubstr("write image_cache_stall_time")));
  EXPECT_THAT(warnings(origin_ + "[keystone_authtoken]\nadmin_user = glance\n"),
              Contains(HasSubstr("[keystone_authtoken] admin_user: is of an older release")));
}

TEST_F(Serve, PolicyFilesAreFoundAsOsloPolicyFindsThem) {
  using enum ConfigSource::Kind;
  const auto glance = write("glance/glance-api.conf", "");
  const auto own = write("own/own.conf", "");
  const auto cinder = write("cinder/cinder.conf", "");
  write("cinder/policy.yaml", "");
  const auto files = [&](const std::string& own_text) {
    write("own/own.conf", own_text);
    const auto config = load({.sources = {{file, cinder}, {file, glance}, {file, own}}, .environment = {}});
    EXPECT_TRUE(config);
    return config->policy_files();
  };
  EXPECT_EQ(files("").file, "");  // Cinder's is not the image cache's
  EXPECT_FALSE(files("").must_exist);
  write("glance/policy.yaml", "");
  std::filesystem::create_directories(directory_ / "glance/policy.d");
  EXPECT_EQ(files("").file, (directory_ / "glance/policy.yaml").native());
  EXPECT_THAT(files("").dirs, ElementsAre((directory_ / "glance/policy.d").native()));
  const auto named = files("[oslo_policy]\npolicy_file = rules.json\n");
  EXPECT_EQ(named.file, "rules.json");  // absent, and told so by who reads it
  EXPECT_TRUE(named.must_exist);
  write("own/rules.json", "");
  EXPECT_EQ(files("[oslo_policy]\npolicy_file = rules.json\n").file, (directory_ / "own/rules.json").native());
}

}  // namespace
}  // namespace imagecache::config
