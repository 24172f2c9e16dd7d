#include <gmock/gmock.h>

#include <set>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "temp_files.hpp"

namespace imagecache::config {
namespace {

const std::filesystem::path project_root = IMAGECACHE_PROJECT_ROOT;

TEST(Sample, TheCommittedFileIsWhatTheTableGives) {
  const auto committed = base::read_small_file(project_root / "cinder.conf.sample");
  ASSERT_TRUE(committed) << committed.error().message;
  EXPECT_EQ(*committed, sample()) << "write it anew: cinder-image-cache config sample > cinder.conf.sample";
}

TEST(Sample, NamesEveryOptionOnce) {
  std::set<std::string> seen;
  for (const auto& option : options()) {
    EXPECT_TRUE(seen.insert(std::string(option.section) + "." + std::string(option.name)).second) << option.name;
    EXPECT_THAT(sample(), ::testing::HasSubstr("\n#" + std::string(option.name) + " = ")) << option.name;
  }
}

class SampleFile : public TempFiles {};

TEST_F(SampleFile, LoadsWithEveryDefaultMadeExplicit) {
  std::string text;
  for (const auto& line : base::split(sample(), '\n')) {
    const bool option_line = line.size() > 1 && line[0] == '#' && line[1] != ' ' && !line.ends_with("<None>");
    text += (option_line ? line.substr(1) : line) + "\n";
  }
  const auto config = load_text(text);
  ASSERT_TRUE(config) << config.error().message;
  for (const auto& row : config->show()) {
    if (row.value.empty() || row.section == "file1") continue;
    EXPECT_NE(row.source, "default") << row.option;
  }
}

TEST_F(SampleFile, ItsExampleIsCompleteAndRight) {
  std::string example;
  for (const auto& line : base::split(sample(), '\n')) {
    if (line.starts_with("#   ") && line.find("--config-file") == std::string::npos &&
        line.find("cinder-image-cache serve") == std::string::npos) {
      example += line.substr(4) + "\n";
    }
    if (line == "[image_cache_service]") break;
  }
  const auto config = load_text(example);
  ASSERT_TRUE(config) << config.error().message << example;
  EXPECT_TRUE(config->warnings().empty());
  ASSERT_EQ(config->enabled_backends().size(), 1U);
  EXPECT_EQ(config->enabled_backends()[0].get("file_volume_dir"), "/srv/volumes");
}

}  // namespace
}  // namespace imagecache::config
