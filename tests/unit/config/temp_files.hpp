// A directory of configuration files for one test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "config/config.hpp"

namespace imagecache::config {

class TempFiles : public ::testing::Test {
 protected:
  TempFiles() {
    auto name = (std::filesystem::temp_directory_path() / "config-test-XXXXXX").native();
    directory_ = ::mkdtemp(name.data());
  }
  ~TempFiles() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path write(const std::string& name, std::string_view text) const {
    const auto path = directory_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }

  /// Writes `text` as one file and loads it.
  Result<Config> load_text(std::string_view text) const {
    return load({.sources = {{ConfigSource::Kind::file, write("cinder.conf", text)}}, .environment = {}});
  }
  /// The problems of `text`, with the directory's name left out.
  std::string problems_of(std::string_view text) const {
    const auto config = load_text(text);
    auto message = config ? std::string() : config.error().message;
    const auto prefix = directory_.native() + "/";
    for (auto at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
      message.erase(at, prefix.size());
    }
    return message;
  }

  std::filesystem::path directory_;
};

}  // namespace imagecache::config
