// Which pipeline is loaded, and what that turns on: the rows of Glance's own table of flavors, older releases' files,
// and what is refused.
#include "config/pipeline.hpp"

#include <gmock/gmock.h>

#include "paste_files.hpp"
#include "temp_files.hpp"

namespace imagecache::config {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// "tokens caches manages healthcheck", or the refusal.
std::string say(const Result<Pipeline>& pipeline) {
  if (!pipeline) return pipeline.error().message;
  std::string text = pipeline->name;
  if (pipeline->checks_tokens) text += " tokens";
  if (pipeline->caches) text += " caches";
  if (pipeline->manages_cache) text += " manages";
  if (pipeline->healthcheck) text += " health";
  return text;
}

std::string say(const std::string& paste, const std::string& flavor) {
  return say(pipeline_of(paste, "p.ini", flavor));
}

class Pipelines : public TempFiles {
 protected:
  /// As `image_pipeline` sees glance-api.conf with `text`, and nothing in /etc/glance.
  Result<Pipeline> of(const std::string& text) const {
    const auto config =
        load({.sources = {{ConfigSource::Kind::file, write("glance-api.conf", text)}}, .environment = {}});
    EXPECT_TRUE(config) << config.error().message;
    auto pipeline = image_pipeline(*config, {.directories = {directory_ / "etc-glance"}});
    if (!pipeline) {
      auto& message = pipeline.error().message;
      const auto prefix = directory_.native() + "/";
      for (auto at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
        message.erase(at, prefix.size());
      }
    }
    return pipeline;
  }
  const std::string dir_ = "[DEFAULT]\nimage_cache_dir = /var/cache/images\n";
};

struct Row {
  std::string flavor, zed;
};

class Flavors : public Pipelines, public ::testing::WithParamInterface<Row> {};

TEST_P(Flavors, MeanInGlancesFileWhatTheyMeanToGlance) {
  EXPECT_EQ(say(zed_paste, GetParam().flavor), GetParam().zed);
}

TEST_P(Flavors, MeanTheSameWithoutAFile) {
  const auto pipeline = of(dir_ + "[paste_deploy]\nflavor = " + GetParam().flavor + "\n");
  EXPECT_EQ(say(pipeline), GetParam().zed);
  EXPECT_TRUE(pipeline->known);
}

INSTANTIATE_TEST_SUITE_P(Spec, Flavors,
                         ::testing::Values(Row{"", "glance-api health"},
                                           Row{"caching", "glance-api-caching caches health"},
                                           Row{"cachemanagement", "glance-api-cachemanagement caches manages health"},
                                           Row{"keystone", "glance-api-keystone tokens health"},
                                           Row{"keystone+caching", "glance-api-keystone+caching tokens caches health"},
                                           Row{"keystone+cachemanagement",
                                               "glance-api-keystone+cachemanagement tokens caches manages health"}),
                         [](const auto& row) {
                           auto name = row.param.flavor.empty() ? "none" : row.param.flavor;
                           std::ranges::replace(name, '+', '_');
                           return name;
                         });

TEST_F(Pipelines, TodaysPipelineFactoryIsAskedForTheSameFlavorAgain) {
  EXPECT_EQ(say(master_paste, ""), "glance-api health");
  EXPECT_EQ(say(master_paste, "keystone+caching"), "glance-api-keystone+caching tokens caches health");
  EXPECT_EQ(say(master_paste, "keystone+cachemanagement"),
            "glance-api-keystone+cachemanagement tokens caches manages health");
  EXPECT_EQ(say(master_paste, "nohealth"), "glance-api-nohealth");
}

TEST_F(Pipelines, APipelineFactoryWithoutALineForTheFlavorIsRefused) {
  auto paste = master_paste;
  paste.erase(paste.find("nohealth = "), std::string("nohealth = cors unauthenticated-context rootapp\n").size());
  EXPECT_THAT(say(paste, "nohealth"), HasSubstr("[composite:api] has no line 'nohealth = ...'"));
}

TEST_F(Pipelines, EssexsFilesAreUnderstood) {
  EXPECT_EQ(say(essex_paste, ""), "glance-api");
  EXPECT_EQ(say(essex_paste, "caching"), "glance-api-caching caches");
  EXPECT_EQ(say(essex_paste, "keystone+cachemanagement"), "glance-api-keystone+cachemanagement tokens caches manages");
}

TEST_F(Pipelines, AFilterIsKnownByItsFactoryAndNotByItsName) {
  const std::string paste =
      "[pipeline:glance-api]\npipeline = who store\n  admin images\n[app:images]\npaste.app_factory = glance.x:API\n"
      "[filter:who]\nuse = egg:keystonemiddleware#auth_token\n"
      "[filter:store]\nuse = kept\n[filter:kept]\npaste.filter_factory = "
      "glance.api.middleware.cache:CacheFilter.factory\n"
      "[filter:admin]\npaste.filter_factory = %(module)s:CacheManageFilter.factory\nmodule = "
      "glance.api.middleware.cache_manage\n";
  EXPECT_EQ(say(paste, ""), "glance-api tokens caches manages");
}

TEST_F(Pipelines, AFilterOfTheNameCacheThatIsAnotherOfGlancesDoesNotCache) {
  const std::string paste =
      "[pipeline:glance-api]\npipeline = cache images\n[app:images]\npaste.app_factory = glance.x:API\n"
      "[filter:cache]\npaste.filter_factory = glance.api.middleware.gzip:GzipMiddleware.factory\n";
  EXPECT_EQ(say(paste, ""), "glance-api");
}

TEST_F(Pipelines, AnOperatorsOwnFactoryIsTakenByItsSectionsName) {
  const std::string paste =
      "[pipeline:glance-api]\npipeline = authtoken cache images\n[app:images]\npaste.app_factory = glance.x:API\n"
      "[filter:cache]\npaste.filter_factory = our_glance.cache:FastCacheFilter.factory\n"
      "[filter:authtoken]\npaste.filter_factory = our_glance.auth:factory\n";
  EXPECT_EQ(say(paste, ""), "glance-api tokens caches");
}

TEST_F(Pipelines, OnlyTheWayOfAnImagesRequestCounts) {
  const std::string paste =
      "[composite:glance-api]\nuse = egg:Paste#urlmap\n/: other\n/v2/: images\n/healthcheck: health\n"
      "[pipeline:other]\npipeline = cache end\n[pipeline:images]\npipeline = authtoken end\n"
      "[app:end]\npaste.app_factory = glance.x:API\n[app:health]\nuse = egg:oslo.middleware#healthcheck\n"
      "[filter:cache]\npaste.filter_factory = glance.api.middleware.cache:CacheFilter.factory\n"
      "[filter:authtoken]\npaste.filter_factory = keystonemiddleware.auth_token:filter_factory\n";
  EXPECT_EQ(say(paste, ""), "glance-api tokens health");
}

TEST_F(Pipelines, FiltersAroundApplicationsAndFilterAppsCount) {
  const std::string paste =
      "[filter-app:glance-api]\npaste.filter_factory = keystonemiddleware.auth_token:filter_factory\nnext = images\n"
      "[app:images]\nfilter-with = cache\npaste.app_factory = glance.x:API\n"
      "[filter:cache]\npaste.filter_factory = glance.api.middleware.cache:CacheFilter.factory\n";
  EXPECT_EQ(say(paste, ""), "glance-api tokens caches");
}

TEST_F(Pipelines, AnApplicationOfAnotherFileIsFollowed) {
  write("more.ini",
        "[pipeline:inner]\npipeline = cache end\n[app:end]\npaste.app_factory = glance.x:API\n"
        "[filter:cache]\npaste.filter_factory = glance.api.middleware.cache:CacheFilter.factory\n");
  const auto path = (directory_ / "p.ini").native();
  EXPECT_EQ(say(pipeline_of("[app:glance-api]\nuse = config:more.ini#inner\n", path, "")), "glance-api caches");
  write("p.ini", "[app:glance-api]\nuse = config:p.ini#glance-api\n");
  EXPECT_THAT(say(pipeline_of("[app:glance-api]\nuse = config:p.ini#glance-api\n", path, "")),
              HasSubstr("leads back to itself"));
}

TEST_F(Pipelines, SectionsThatAreMissingAreNamed) {
  EXPECT_EQ(say("[pipeline:glance-api]\npipeline = cache end\n", ""),
            "p.ini: a pipeline names cache, but there is no [filter:cache]");
  EXPECT_EQ(say("[pipeline:glance-api]\npipeline = end\n", ""),
            "p.ini: there is no application end: no [pipeline:end], [composite:end] or [app:end]");
  EXPECT_EQ(say("[pipeline:glance-api]\npipeline = glance-api\n", ""), "p.ini: glance-api leads back to itself");
  EXPECT_EQ(say("[pipeline:glance-api]\npipe = x\n", ""),
            "p.ini:1: [pipeline:glance-api] has no line 'pipeline = ...'");
}

TEST_F(Pipelines, TheMisspellingCachemanageIsToldWhatToWrite) {
  EXPECT_THAT(say(zed_paste, "cachemanage"),
              HasSubstr("flavor = cachemanage: write flavor = cachemanagement; p.ini has"));
  EXPECT_THAT(say(zed_paste, "keystone+cachemanage"), HasSubstr("write flavor = keystone+cachemanagement;"));
  EXPECT_THAT(say(zed_paste, "keystone+cache"), HasSubstr("write flavor = keystone+caching;"));
  EXPECT_THAT(say(zed_paste, "keystone-caching"), HasSubstr("write flavor = keystone+caching;"));
}

TEST_F(Pipelines, AnUnknownFlavorIsRefusedWithThoseThatTheFileHas) {
  EXPECT_EQ(say(essex_paste, "ldap"),
            "[paste_deploy] flavor = ldap: p.ini has the flavors: none at all, caching, keystone+cachemanagement");
  EXPECT_EQ(say(of("[paste_deploy]\nflavor = ldap\n")),
            "glance-api.conf:2: [paste_deploy] flavor = ldap: no paste file was found, and what Glance ships has the "
            "flavors: none at all, caching, cachemanagement, keystone, keystone+caching, keystone+cachemanagement");
}

TEST_F(Pipelines, AFlavorOfTheOperatorsOwnIsLoaded) {
  EXPECT_EQ(say("[pipeline:glance-api-mine]\npipeline = cache end\n[app:end]\npaste.app_factory = a:b\n"
                "[filter:cache]\npaste.filter_factory = glance.api.middleware.cache:CacheFilter.factory\n",
                "mine"),
            "glance-api-mine caches");
}

TEST_F(Pipelines, TrustedAuthIsRefusedWithTheReasonAndTheWayOut) {
  EXPECT_EQ(say(of(dir_ + "[paste_deploy]\nflavor = trusted-auth+cachemanagement\n")),
            "glance-api.conf:4: [paste_deploy] flavor = trusted-auth+cachemanagement: believes whatever X-User-Id and "
            "X-Roles a client sends, and left Glance in Rocky; write flavor = keystone+cachemanagement");
  EXPECT_THAT(say(of(dir_ + "[paste_deploy]\nflavor = trusted-auth\n")), HasSubstr("write flavor = keystone"));
}

TEST_F(Pipelines, WithoutFlavorAndFileTheDirectoryAloneDecides) {
  const auto with = of("[DEFAULT]\nauth_strategy = noauth\nimage_cache_dir = /c\n");
  ASSERT_TRUE(with);
  EXPECT_FALSE(with->known);
  EXPECT_EQ(say(with), " caches manages health");
  const auto without = of("[DEFAULT]\nauth_strategy = keystone\n");
  EXPECT_EQ(say(without), " tokens health");
  // Even where Glance's file lies about: this is no Glance's configuration.
  write("etc-glance/glance-api-paste.ini", "broken");
  EXPECT_FALSE(of(dir_)->known);
}

TEST_F(Pipelines, AnEmptyFlavorIsGlanceWithoutACache) {
  const auto pipeline = of(dir_ + "[paste_deploy]\nflavor =\n");
  EXPECT_EQ(say(pipeline), "glance-api health");
  EXPECT_TRUE(pipeline->known);
}

TEST_F(Pipelines, ACachingFlavorNeedsADirectoryAsInGlance) {
  EXPECT_EQ(
      say(of("[paste_deploy]\nflavor = keystone+caching\n")),
      "glance-api.conf:2: [paste_deploy] flavor = keystone+caching: the pipeline glance-api-keystone+caching caches "
      "images, so that [DEFAULT] image_cache_dir must name a directory");
  EXPECT_EQ(say(of("[paste_deploy]\nflavor = keystone\n")), "glance-api-keystone tokens health");
}

TEST_F(Pipelines, TheFileLiesBesideTheLastConfigFileThenInEtcGlance) {
  const auto flavor = dir_ + "[paste_deploy]\nflavor = x\n";
  const auto file = [](std::string_view filter) {
    return "[pipeline:glance-api-x]\npipeline = " + std::string(filter) +
           " end\n[app:end]\npaste.app_factory = a:b\n[filter:" + std::string(filter) +
           "]\npaste.filter_factory = mine:f\n";
  };
  write("etc-glance/glance-api-paste.ini", file("cachemanage"));
  EXPECT_EQ(say(of(flavor)), "glance-api-x manages");
  write("glance-api-paste.ini", file("cache"));
  EXPECT_EQ(say(of(flavor)), "glance-api-x caches");
  write("own.ini", file("authtoken"));
  EXPECT_EQ(say(of(flavor + "config_file = " + (directory_ / "own.ini").native() + "\n")), "glance-api-x tokens");
}

TEST_F(Pipelines, OfSeveralConfigFilesTheLastWithAPasteFileCounts) {
  write("glance/glance-api-paste.ini", zed_paste);
  using enum ConfigSource::Kind;
  const auto config = load({.sources = {{file, write("cinder/cinder.conf", dir_)},
                                        {file, write("glance/glance-api.conf", "[paste_deploy]\nflavor = caching\n")},
                                        {file, write("own/cinder-image-cache.conf", "")}},
                            .environment = {}});
  ASSERT_TRUE(config);
  const auto pipeline = image_pipeline(*config, {.directories = {}});
  ASSERT_TRUE(pipeline) << pipeline.error().message;
  EXPECT_EQ(pipeline->source, (directory_ / "glance/glance-api-paste.ini").native());
}

TEST_F(Pipelines, ANamedFileThatIsNotThereIsRefused) {
  EXPECT_EQ(say(of("[paste_deploy]\nconfig_file = /nowhere/p.ini\n")),
            "glance-api.conf:2: [paste_deploy] config_file = /nowhere/p.ini: there is no such file");
}

TEST_F(Pipelines, AMistakeInTheFileIsToldWithItsLine) {
  write("glance-api-paste.ini", "[pipeline:glance-api]\npipeline = a b\n[pipeline:glance-api]\n");
  EXPECT_EQ(say(of("[paste_deploy]\nflavor =\n")),
            "glance-api-paste.ini:3: [pipeline:glance-api] is in line 1 already");
}

}  // namespace
}  // namespace imagecache::config
