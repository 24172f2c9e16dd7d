#include <gmock/gmock.h>

#include "temp_files.hpp"

namespace imagecache::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Load : public TempFiles {};

TEST_F(Load, NothingAtAllGivesTheDefaults) {
  const auto config = load({});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_bind_address(own_section, "image_api_bind").port, 9393);
  EXPECT_EQ(config->get_bind_address(own_section, "volume_api_bind").to_string(), "127.0.0.1:8787");
  EXPECT_EQ(config->get_int("DEFAULT", "image_cache_max_size"), 10737418240);
  EXPECT_EQ(config->get_seconds(own_section, "drain_timeout"), std::chrono::seconds(60));
  EXPECT_EQ(config->get_string("DEFAULT", "auth_strategy"), "keystone");
  EXPECT_THAT(config->get_list("DEFAULT", "vmdk_allowed_types"), ElementsAre("streamOptimized", "monolithicSparse"));
  EXPECT_FALSE(config->is_set("DEFAULT", "image_cache_dir"));
  EXPECT_EQ(config->find_string("DEFAULT", "image_cache_dir"), std::nullopt);
  EXPECT_THAT(config->enabled_backends(), IsEmpty());
  EXPECT_THAT(config->origins(), IsEmpty());
  EXPECT_EQ(config->log_file(), "");
}

TEST_F(Load, EveryDefaultIsAllowedByItsOwnOption) {
  for (const auto& option : options()) {
    if (!option.default_text || option.default_text->find('$') != std::string_view::npos) continue;
    EXPECT_TRUE(parse_value(option, *option.default_text)) << option.section << " " << option.name;
    EXPECT_FALSE(option.help.empty()) << option.name;
    EXPECT_TRUE(option.help.ends_with('.')) << option.name;
  }
}

TEST_F(Load, LaterFilesWinAndTheLastKeyOfAFile) {
  const auto first = write("a.conf", "[DEFAULT]\nquota_volumes = 1\nquota_volumes = 2\nquota_gigabytes = 5\n");
  const auto second = write("b.conf", "[DEFAULT]\nquota_volumes = 3\n");
  using enum ConfigSource::Kind;
  const auto config = load({.sources = {{file, first}, {file, second}}, .environment = {}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get_int("DEFAULT", "quota_volumes"), 3);
  EXPECT_EQ(config->get_int("DEFAULT", "quota_gigabytes"), 5);
  const auto other_way = load({.sources = {{file, second}, {file, first}}, .environment = {}});
  ASSERT_TRUE(other_way);
  EXPECT_EQ(other_way->get_int("DEFAULT", "quota_volumes"), 2);
}

TEST_F(Load, ADirectorysFilesAreReadByNameAtItsPlaceInTheOrder) {
  write("d/20-b.conf", "[DEFAULT]\nquota_volumes = 20\nquota_backups = 20\n");
  write("d/10-a.conf", "[DEFAULT]\nquota_volumes = 10\n");
  write("d/30-c.conf.bak", "[DEFAULT]\nquota_volumes = 30\n");
  write("d/.40-d.conf", "[DEFAULT]\nquota_volumes = 40\n");
  const auto after = write("after.conf", "[DEFAULT]\nquota_backups = 1\n");
  using enum ConfigSource::Kind;
  const auto config = load({.sources = {{directory, directory_ / "d"}, {file, after}}, .environment = {}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get_int("DEFAULT", "quota_volumes"), 20);
  EXPECT_EQ(config->get_int("DEFAULT", "quota_backups"), 1);
}

TEST_F(Load, TheEnvironmentWinsOverFiles) {
  const auto file =
      write("a.conf", "[DEFAULT]\nquota_volumes = 1\nenabled_backends = f\n[f]\nvolume_driver = memory\n");
  const auto config = load({.sources = {{ConfigSource::Kind::file, file}},
                            .environment = {{"OS_DEFAULT__QUOTA_VOLUMES", "7"},
                                            {"OS_F__IMAGE_VOLUME_CACHE_MAX_COUNT", "8"},
                                            {"OS_IMAGE_CACHE_SERVICE__IO_THREADS", "4"},
                                            {"OS_AUTH_URL", "x"}}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_int("DEFAULT", "quota_volumes"), 7);
  EXPECT_EQ(config->get_int(own_section, "io_threads"), 4);
  EXPECT_EQ(config->enabled_backends().at(0).get_int("image_volume_cache_max_count"), 8);
  const auto bad = load({.sources = {}, .environment = {{"OS_DEFAULT__DEBUG", "maybe"}}});
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("environment OS_DEFAULT__DEBUG: [DEFAULT] debug = maybe: must be"));
}

TEST_F(Load, AllErrorsAreToldAtOnceWithFileLineOptionAndWhatIsAllowed) {
  EXPECT_EQ(problems_of("[DEFAULT]\n"
                        "quota_volumes = ten\n"
                        "image_cache_max_size = -1\n"
                        "no separator\n"
                        "auth_strategy = ldap\n"
                        "enabled_backends = a, b\n"
                        "[image_cache_service]\n"
                        "image_api_bind = 9393\n"
                        "io_thread = 3\n"
                        "quota_backups = 3\n"
                        "[a]\n"
                        "volume_driver = file\n"
                        "image_volume_cache_enabled = maybe\n"),
            "cinder.conf:4: neither a section nor 'key = value': 'no separator'\n"
            "cinder.conf:9: [image_cache_service] io_thread: there is no such option; did you mean io_threads?\n"
            "cinder.conf:10: [image_cache_service] quota_backups: there is no such option; it belongs into [DEFAULT]\n"
            "cinder.conf:5: [DEFAULT] auth_strategy = ldap: must be one of keystone, noauth\n"
            "cinder.conf:3: [DEFAULT] image_cache_max_size = -1: must be a whole number, at least 0\n"
            "cinder.conf:2: [DEFAULT] quota_volumes = ten: must be a whole number from -1 to 2147483647\n"
            "cinder.conf:8: [image_cache_service] image_api_bind = 9393: must be host:port, [ipv6]:port or unix:/path\n"
            "cinder.conf:13: [a] image_volume_cache_enabled = maybe: must be true or false (also 1/0, yes/no, on/off)\n"
            "cinder.conf:12: [a] volume_driver = file: needs file_volume_dir, the directory of its volumes\n"
            "cinder.conf:6: [DEFAULT] enabled_backends names b, but there is no section [b]");
}

TEST_F(Load, InstantImportNeedsTheUrlThatClientsReadFrom) {
  const std::string section = "[DEFAULT]\nenabled_backends = a\n[a]\nvolume_driver = rbd\nrbd_instant_import = true\n";
  const std::string wanted =
      "rbd_instant_import needs rbd_import_url = http[s]://host:port, where the cluster's clients reach this service's "
      "image API";
  EXPECT_EQ(problems_of(section), "cinder.conf:5: [a] rbd_instant_import = true: " + wanted);
  EXPECT_EQ(problems_of(section + "rbd_import_url = cache:9393\n"),
            "cinder.conf:6: [a] rbd_import_url = cache:9393: " + wanted);
  EXPECT_EQ(problems_of(section + "rbd_import_url = https://cache.example:9393\n"), "");
}

TEST_F(Load, AnOverriddenWrongValueIsNobodysBusiness) {
  EXPECT_EQ(problems_of("[DEFAULT]\nquota_volumes = ten\nquota_volumes = 10\n"), "");
  EXPECT_EQ(problems_of("[DEFAULT]\n[not_enabled]\nimage_volume_cache_enabled = maybe\n"), "");
}

TEST_F(Load, AMissingFileIsAProblemWithItsName) {
  const auto config = load({.sources = {{ConfigSource::Kind::file, directory_ / "none.conf"},
                                        {ConfigSource::Kind::directory, directory_ / "none.d"}},
                            .environment = {}});
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("none.conf: No such file or directory"));
  EXPECT_THAT(config.error().message, HasSubstr("none.d: No such file or directory"));
}

TEST_F(Load, SubstitutionFindsOptionsAsOsloDoes) {
  const auto config = load_text(
      "[DEFAULT]\n"
      "my_ip = 10.0.0.5\n"
      "root = /srv\n"
      "image_cache_dir = $root/${cache.name}\n"
      "glance_api_servers = http://$my_ip:9292,http://${my_ip}b:9292\n"
      "image_cache_sqlite_db = $$cost\\$5$\n"
      "log_dir = $state_path/log\n"
      "[cache]\n"
      "name = images\n");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_string("DEFAULT", "image_cache_dir"), "/srv/images");
  EXPECT_THAT(config->origins(), ElementsAre("http://10.0.0.5:9292", "http://10.0.0.5b:9292"));
  EXPECT_EQ(config->get_string("DEFAULT", "image_cache_sqlite_db"), "$cost$5$");
  EXPECT_EQ(config->get_string("DEFAULT", "log_dir"), "/var/lib/cinder/log");
}

TEST_F(Load, AnUnknownOrCircularSubstitutionIsAnError) {
  EXPECT_EQ(problems_of("[DEFAULT]\nimage_cache_dir = /x/$nowhere\n"),
            "cinder.conf:2: [DEFAULT] image_cache_dir = /x/$nowhere: $nowhere is not set in any file");
  EXPECT_EQ(problems_of("[DEFAULT]\nlog_dir = $host\nhost = $log_dir\n"),
            "cinder.conf:2: [DEFAULT] log_dir = $host: refers to itself\n"
            "cinder.conf:3: [DEFAULT] host = $log_dir: refers to itself");
}

TEST_F(Load, ScratchSpaceIsOursUnlessTheOperatorSaysOtherwise) {
  EXPECT_EQ(load_text("[DEFAULT]\nstate_path = /var/lib/other\n")->get_string("DEFAULT", "image_conversion_dir"),
            "/var/lib/cinder-image-cache/conversion");
  EXPECT_EQ(load_text("[image_cache_service]\nstate_path = /s\n")->get_string("DEFAULT", "image_conversion_dir"),
            "/s/conversion");
  EXPECT_EQ(load_text("[DEFAULT]\nimage_conversion_dir = $state_path/conversion\n")
                ->get_string("DEFAULT", "image_conversion_dir"),
            "/var/lib/cinder/conversion");
}

TEST_F(Load, AnEmptyNumberOrPathIsAsIfItWereNotSet) {
  const auto config = load_text("[DEFAULT]\nquota_volumes =\nimage_cache_dir =\n");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get_int("DEFAULT", "quota_volumes"), 10);
  EXPECT_FALSE(config->is_set("DEFAULT", "image_cache_dir"));
}

TEST_F(Load, NoauthIsRefusedWhereOthersCanReachIt) {
  const auto open = "[DEFAULT]\nauth_strategy = noauth\n[image_cache_service]\nvolume_api_bind = 0.0.0.0:8787\n";
  EXPECT_THAT(problems_of(open), HasSubstr("cinder.conf:4: [image_cache_service] volume_api_bind = 0.0.0.0:8787: with "
                                           "auth_strategy = noauth every caller is an administrator"));
  EXPECT_EQ(problems_of(std::string(open) + "allow_noauth_on_any_address = true\n"), "");
  EXPECT_EQ(problems_of("[image_cache_service]\nvolume_api_bind = 0.0.0.0:8787\n"), "");
}

TEST_F(Load, TheHookIsForThisHostOnly) {
  const std::string section = "[image_cache_service]\nallow_noauth_on_any_address = true\nhook_bind = ";
  EXPECT_THAT(problems_of(section + "0.0.0.0:8788\n"), HasSubstr("hook_bind = 0.0.0.0:8788: who reaches it"));
  EXPECT_EQ(problems_of(section + "127.0.0.1:8788\n"), "");
  EXPECT_EQ(problems_of(section + "unix:/run/hook.sock\n"), "");
  EXPECT_THAT(problems_of(section + "127.0.0.1:9393\n"), HasSubstr("has this address"));
}

TEST_F(Load, TwoServersCannotHaveOneAddress) {
  EXPECT_THAT(problems_of("[image_cache_service]\nvolume_api_bind = 127.0.0.1:9393\n"), HasSubstr("has this address"));
  EXPECT_EQ(problems_of("[image_cache_service]\nvolume_api_bind = 127.0.0.1:0\nstatus_bind = 127.0.0.1:0\n"), "");
}

TEST_F(Load, AVolumeNameMustBeAFileName) {
  for (const auto* bad : {"volume", "../%s", "a/%s", "%s-%s", "%d", ".%s", ""}) {
    EXPECT_THAT(problems_of(std::string("[DEFAULT]\nvolume_name_template = ") + bad + "\n"),
                HasSubstr("must hold %s once"))
        << bad;
  }
  EXPECT_EQ(problems_of("[DEFAULT]\nvolume_name_template = vol_%s.img\n"), "");
}

TEST_F(Load, AReadingOfAnotherTypeIsABugWhateverTheFilesSay) {
  const auto config = load({});
  ASSERT_TRUE(config);
  EXPECT_THROW(config->get_int("DEFAULT", "debug"), std::logic_error);
  EXPECT_THROW(config->get_string("DEFAULT", "no_such"), std::logic_error);
  EXPECT_THROW(config->get_int("DEFAULT", "glance_request_timeout"), std::logic_error);
  EXPECT_THROW(config->get_unsigned("DEFAULT", "quota_volumes"), std::logic_error);
  EXPECT_THROW(config->section("nova"), std::logic_error);
}

TEST_F(Load, OursIsTheLogFileBeforeTheirs) {
  EXPECT_EQ(load_text("[DEFAULT]\nlog_dir = /l\n")->log_file(), "/l/cinder-image-cache.log");
  EXPECT_EQ(load_text("[DEFAULT]\nlog_dir = /l\nlog_file = x.log\n")->log_file(), "/l/x.log");
  EXPECT_EQ(load_text("[DEFAULT]\nlogdir = /l\nlog_file = /m/x.log\n")->log_file(), "/m/x.log");
  EXPECT_EQ(load_text("[DEFAULT]\nlog_file = /m/x.log\n[image_cache_service]\nlog_file=/o\n")->log_file(), "/o");
}

TEST_F(Load, ShowTellsEachValueAndItsPlace) {
  const auto config = load_text("[DEFAULT]\nquota_volumes = 3\n");
  ASSERT_TRUE(config);
  bool seen = false;
  for (const auto& row : config->show()) {
    if (row.option == "quota_gigabytes") {
      EXPECT_EQ(row.source, "default");
    }
    if (row.option != "quota_volumes") continue;
    seen = true;
    EXPECT_EQ(row.value, "3");
    EXPECT_THAT(row.source, HasSubstr("cinder.conf:2"));
  }
  EXPECT_TRUE(seen);
}

TEST(NearMatches, FindSlipsOfThePen) {
  EXPECT_THAT(near_matches(own_section, "image_api_bnd"), ElementsAre("image_api_bind"));
  EXPECT_THAT(near_matches(own_section, "originn"), ElementsAre("origin"));
  EXPECT_THAT(near_matches(own_section, "something_else_entirely"), IsEmpty());
  EXPECT_THAT(near_matches(own_section, std::string(100000, 'x')), IsEmpty());
}

}  // namespace
}  // namespace imagecache::config
