#include "image_cache/inventory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <set>

#include "image_cache/slot_index.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::image_cache {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

/// An index of these rows, in this order.
class Rows final : public Index {
 public:
  explicit Rows(std::vector<std::string> ids) : ids_(std::move(ids)) {}
  bool rows_are_files() const override { return false; }
  Result<std::vector<IndexRow>> rows(Reading&) override {
    if (ids_.empty()) return fail(Errc::busy, "locked");
    std::vector<IndexRow> all;
    for (const auto& id : ids_) all.push_back({.image_id = id});
    return all;
  }
  Result<bool> changed_by_others() override { return false; }
  Result<void> prepare(int) override { return {}; }
  void mark_invalid(const fs::path&, std::string_view) override {}
  Result<std::vector<Restamped>> apply(const std::vector<IndexRow>&, const std::vector<std::string>&,
                                       const std::vector<IndexHits>&) override {
    return {};
  }

 private:
  std::vector<std::string> ids_;
};

std::vector<std::string> ids(const std::vector<IndexRow>& rows) {
  std::vector<std::string> all;
  for (const auto& row : rows) all.push_back(row.image_id);
  return all;
}

TEST(Inventory, RowsAndFilesAreJoinedByName) {
  const test::TempDir directory;
  for (const auto* name : {"both-2", "both-1", "both-10", "file-only", "a"}) std::ofstream(directory / name) << "x";
  fs::create_directory(directory / "row-and-folder");
  fs::create_symlink(directory / "a", directory / "row-and-link");
  Rows rows({"row-and-folder", "both-10", "zz-row-only", "both-1", "", "both-2", "row-and-link"});
  Reading reading;
  const auto found = take_inventory(rows, directory.path(), reading);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_THAT(ids(found->rows), ElementsAre("both-1", "both-10", "both-2"));
  EXPECT_THAT(ids(found->rows_without_file), ElementsAre("", "row-and-folder", "row-and-link", "zz-row-only"));
  EXPECT_THAT(found->files_without_row, ElementsAre("a", "file-only"));
}

TEST(Inventory, AnyNamesAreJoinedAsSetsWouldBe) {
  std::mt19937 random(3);
  const test::TempDir directory;
  std::set<std::string> files;
  std::set<std::string> rows;
  for (int i = 0; i < 500; ++i) {
    // Names that share their first eight bytes, and names that are shorter.
    const std::string name = (random() % 2 ? "00000000-" : "") + std::to_string(random() % 400);
    if (random() % 2 && files.insert(name).second) std::ofstream(directory / name) << "x";
    if (random() % 2) rows.insert(name);
  }
  std::vector<std::string> shuffled(rows.begin(), rows.end());
  std::ranges::shuffle(shuffled, random);
  Rows index(shuffled);
  Reading reading;
  const auto found = take_inventory(index, directory.path(), reading).value();
  std::vector<std::string> both, row_only, file_only;
  std::ranges::set_intersection(rows, files, std::back_inserter(both));
  std::ranges::set_difference(rows, files, std::back_inserter(row_only));
  std::ranges::set_difference(files, rows, std::back_inserter(file_only));
  EXPECT_EQ(ids(found.rows), both);
  EXPECT_EQ(ids(found.rows_without_file), row_only);
  EXPECT_EQ(found.files_without_row, file_only);
}

TEST(Inventory, WhatCannotBeReadIsAnError) {
  const test::TempDir directory;
  Reading reading;
  Rows locked({});
  EXPECT_EQ(take_inventory(locked, directory.path(), reading).error().code, Errc::busy);
  Rows rows({"a"});
  EXPECT_EQ(take_inventory(rows, directory / "absent", reading).error().code, Errc::not_found);
}

TEST(SlotIndex, FindsWhatIsThereThroughThousandsOfChanges) {
  std::mt19937 random(5);
  SlotIndex index;
  std::vector<std::string> ids(300);
  std::vector<bool> there(300);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = "image-" + std::to_string(i);
  const auto find = [&](std::size_t i) { return index.find(ids[i], [&](Slot slot) { return ids[slot] == ids[i]; }); };
  for (int step = 0; step < 30000; ++step) {
    const std::size_t i = random() % ids.size();
    if (there[i]) {
      ASSERT_EQ(find(i), static_cast<Slot>(i));
      index.erase(ids[i], static_cast<Slot>(i));
    } else {
      ASSERT_EQ(find(i), std::nullopt);
      index.insert(ids[i], static_cast<Slot>(i));
    }
    there[i] = !there[i];
    if (step == 1000) index.reserve(2000);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(find(i).has_value(), there[i]);
}

}  // namespace
}  // namespace imagecache::image_cache
