#include <gmock/gmock.h>

#include "cli_fixture.hpp"

namespace imagecache::cli {
namespace {

using config::ConfigSource;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CommandLine : public CliTest {
 protected:
  std::vector<std::string> served_paths() const {
    std::vector<std::string> paths;
    if (served_.empty()) return paths;
    for (const auto& source : served_.back().sources) {
      paths.push_back((source.kind == ConfigSource::Kind::directory ? "dir " : "") + source.path.native());
    }
    return paths;
  }
};

TEST_F(CommandLine, ServeGetsTheSourcesInTheirOrderAndGivesTheExitCode) {
  EXPECT_EQ(run({"serve", "--config-file", "a", "--config-dir=d", "--config-file", "b"}), 7);
  EXPECT_THAT(served_paths(), ElementsAre("a", "dir d", "b"));
}

TEST_F(CommandLine, WithoutOptionsTheEnvironmentNamesTheFilesThenTheDefaultIfItIsThere) {
  EXPECT_EQ(run({"serve"}), 7);
  EXPECT_THAT(served_paths(), IsEmpty());
  const auto fallback = write("default.conf", "");
  EXPECT_EQ(run({"serve"}), 7);
  EXPECT_THAT(served_paths(), ElementsAre(fallback));
  environment_["CINDER_IMAGE_CACHE_CONFIG"] = "/x.conf:" + directory_.native();
  EXPECT_EQ(run({"serve"}), 7);
  EXPECT_THAT(served_paths(), ElementsAre("/x.conf", "dir " + directory_.native()));
  EXPECT_EQ(run({"serve", "--config-file", "a"}), 7);
  EXPECT_THAT(served_paths(), ElementsAre("a"));
}

TEST_F(CommandLine, WrongUsageIsTwoAndSaysWhereHelpIs) {
  EXPECT_EQ(run({}), 2);
  EXPECT_EQ(run({"image"}), 2);
  EXPECT_EQ(run({"images"}), 2);
  EXPECT_EQ(run({"images", "cache"}), 2);
  EXPECT_THAT(err(), HasSubstr("Try 'cinder-image-cache images cache --help'."));
  EXPECT_EQ(run({"volumes", "create", "--size", "0"}), 2);
  EXPECT_EQ(run({"volumes", "create", "--image", "x"}), 2);
  EXPECT_THAT(err(), HasSubstr("--size is required"));
  EXPECT_EQ(run({"images", "list", "-f", "xml"}), 2);
  EXPECT_EQ(run({"images", "clear", "--target", "both-of-them"}), 2);
  EXPECT_EQ(run({"quota", "show", "--project", "p", "--internal"}), 2);
  EXPECT_EQ(out(), "");
  EXPECT_TRUE(served_.empty());
}

TEST_F(CommandLine, HelpIsZeroAndNamesEveryVerb) {
  EXPECT_EQ(run({"--help"}), 0);
  for (const auto* noun : {"serve", "images", "image-volumes", "volumes", "quota", "backends", "config", "status"}) {
    EXPECT_THAT(out(), HasSubstr(noun));
  }
  EXPECT_EQ(run({"image-volumes", "--help"}), 0);
  for (const auto* verb : {"list", "show", "warm", "report", "evict", "pin", "unpin"})
    EXPECT_THAT(out(), HasSubstr(verb));
  EXPECT_EQ(run({"volumes", "create", "--help"}), 0);
  for (const auto* option : {"--image", "--size", "--name", "--type", "--wait", "--config-file", "--url", "--format"}) {
    EXPECT_THAT(out(), HasSubstr(option));
  }
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_THAT(out(), HasSubstr("cinder-image-cache "));
}

TEST_F(CommandLine, ConfigCheckTellsAllProblemsAndFails) {
  const auto file = write("bad.conf", "[DEFAULT]\nquota_volumes = x\ndebug = y\n");
  EXPECT_EQ(run({"config", "check", "--config-file", file}), 1);
  EXPECT_THAT(err(), HasSubstr("cinder-image-cache: " + file + ":2: [DEFAULT] quota_volumes = x: must be"));
  EXPECT_THAT(err(), HasSubstr("cinder-image-cache: " + file + ":3: [DEFAULT] debug = y: must be"));
  EXPECT_EQ(run({"config", "check", "--config-file", file, "-f", "json"}), 1);
  EXPECT_EQ(json().at("problems").size(), 2U);
}

TEST_F(CommandLine, ConfigCheckOfAGoodFileSaysSoWithItsWarnings) {
  const auto file = write("good.conf", "[DEFAULT]\nauth_strategy = noauth\nimage_volume_cache_enabled = true\n");
  EXPECT_EQ(run({"config", "check", "--config-file", file}), 0);
  EXPECT_THAT(out(), HasSubstr("no mistakes in " + file));
  EXPECT_THAT(out(), HasSubstr("has no effect here"));
}

TEST_F(CommandLine, ConfigShowTellsTheLineOfEachValue) {
  const auto file = write("x.conf", "[DEFAULT]\nquota_volumes = 3\n");
  EXPECT_EQ(run({"config", "show", "--config-file", file, "--set", "-f", "json"}), 0);
  ASSERT_EQ(json().size(), 1U);
  EXPECT_EQ(
      json()[0],
      (nlohmann::json{{"section", "DEFAULT"}, {"option", "quota_volumes"}, {"value", "3"}, {"source", file + ":2"}}));
  EXPECT_EQ(run({"config", "show", "--config-file", file}), 0);
  EXPECT_THAT(out(), ::testing::ContainsRegex("\\| image_cache_service +\\| image_api_bind "));
}

TEST_F(CommandLine, ConfigSamplePrintsTheSample) {
  EXPECT_EQ(run({"config", "sample"}), 0);
  EXPECT_EQ(out(), config::sample());
}

}  // namespace
}  // namespace imagecache::cli
