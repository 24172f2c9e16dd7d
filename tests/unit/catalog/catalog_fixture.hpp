// A catalog in a directory of its own, which goes with the test.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.hpp"
#include "catalog/sqlite_catalog.hpp"

// A test names the fields it is about and leaves the rest as they are.
#ifdef __clang__
#pragma clang diagnostic ignored "-Wmissing-designated-field-initializers"
#endif

namespace imagecache::catalog {

using namespace std::chrono_literals;

/// Succeeds, or shows the error.
#define ASSERT_OK(...) \
  if (const auto ok_result = (__VA_ARGS__); !ok_result) FAIL() << ok_result.error().message
#define EXPECT_OK(...) \
  if (const auto ok_result = (__VA_ARGS__); !ok_result) ADD_FAILURE() << ok_result.error().message

template <class T>
Errc code_of(const Result<T>& result) {
  if (result) {
    ADD_FAILURE() << "did not fail";
    return Errc::internal;
  }
  return result.error().code;
}

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "catalog-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    path_ = (directory_ / "catalog.db").string();
  }
  ~CatalogTest() override {
    catalog_.reset();
    std::filesystem::remove_all(directory_);
  }
  void SetUp() override { reopen(); }

  void reopen(SqliteOptions options = {}) {
    catalog_.reset();
    auto opened = SqliteCatalog::open(path_, defaults_, clock_, options);
    ASSERT_TRUE(opened) << opened.error().message;
    catalog_ = std::move(*opened);
  }

  /// The n-th volume: "00000000-0000-4000-8000-00000000000n" of project "p", 1 GiB, made n seconds after the first.
  static std::string id(unsigned n) { return fmt::format("00000000-0000-4000-8000-{:012}", n); }
  Volume volume(unsigned n) const {
    Volume made;
    made.id = id(n);
    made.name = "volume-" + made.id;
    made.project_id = "p";
    made.backend = "fast";
    made.status = "creating";
    made.size_gb = 1;
    made.created_at = clock_.now() + std::chrono::seconds(n);
    return made;
  }
  ImageVolume image_volume(unsigned n, std::string content_key) const {
    ImageVolume made;
    made.volume_id = id(n);
    made.backend = "fast";
    made.content_key = std::move(content_key);
    made.state = "ready";
    made.size_gb = 2;
    made.last_used = clock_.now() + std::chrono::seconds(n);
    return made;
  }
  void add(const Volume& made) { ASSERT_OK(catalog_->create_volume(made)); }
  void add_image_volume(unsigned n, const std::string& content_key) {
    add(volume(n));
    ASSERT_OK(catalog_->create_image_volume(image_volume(n, content_key)));
  }
  QuotaUsage quota(const std::string& resource, const std::string& project = "p") {
    return catalog_->quota(project).value().at(resource);
  }
  std::vector<std::string> listed(const VolumeFilter& filter) {
    std::vector<std::string> ids;
    auto page = catalog_->list_volumes(filter);
    if (!page) {
      ADD_FAILURE() << page.error().message;
      return ids;
    }
    for (const auto& row : *page) ids.push_back(row.id);
    return ids;
  }

  std::filesystem::path directory_;
  std::string path_;
  base::ManualClock clock_;
  QuotaDefaults defaults_;
  std::unique_ptr<SqliteCatalog> catalog_;
};

}  // namespace imagecache::catalog
