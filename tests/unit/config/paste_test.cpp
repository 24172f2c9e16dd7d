// paste.deploy's grammar; what each test says was tried with Python's own ConfigParser.
#include "config/paste.hpp"

#include <gmock/gmock.h>

#include "paste_files.hpp"

namespace imagecache::config {
namespace {

using ::testing::HasSubstr;

PasteFile parsed(std::string_view text) {
  auto file = parse_paste(text, "/etc/glance/p.ini");
  EXPECT_TRUE(file) << file.error().message;
  return file ? *std::move(file) : PasteFile();
}

std::string value(const PasteFile& file, std::string_view key) {
  const auto found = file.value(file.sections.at(0), key);
  return !found ? found.error().message : found->value_or("<none>");
}

std::string mistake(std::string_view text) {
  const auto file = parse_paste(text, "p.ini");
  return file ? "none" : file.error().message;
}

TEST(Paste, KeysEndAtTheFirstEqualsSignOrColon) {
  const auto file = parsed("[composite:root]\n/v2: app=x\nuse = egg:Paste#urlmap\nempty =\n");
  EXPECT_EQ(value(file, "/v2"), "app=x");
  EXPECT_EQ(value(file, "use"), "egg:Paste#urlmap");
  EXPECT_EQ(value(file, "empty"), "");
  EXPECT_EQ(value(file, "/v3"), "<none>");
}

TEST(Paste, AValueGoesOnInLinesFurtherInAcrossCommentsAndBlankLines) {
  const auto file = parsed("[pipeline:p]\npipeline = a\n   b\n# not me\n\n   ; nor me\n   c # me\n\n\nother = x\n");
  EXPECT_EQ(value(file, "pipeline"), "a\nb\n\nc # me");
  EXPECT_EQ(value(file, "other"), "x");
}

TEST(Paste, AnIndentedSectionIsASectionUnlessAValueGoesOn) {
  const auto file = parsed("  [filter:a]\n  k = v\n  [filter:b]\n  k = w\n    [filter:c]\n");
  ASSERT_EQ(file.sections.size(), 2U);
  EXPECT_EQ(*file.value(file.sections[1], "k"), "w\n[filter:c]");
}

TEST(Paste, DefaultHoldsForAllAndHereIsTheFilesDirectory) {
  const auto file = parsed(
      "[DEFAULT]\nname = cache\n[filter:x]\na = %(here)s/x-%(name)s 100%%\nb = %(__file__)s\nc = %(missing)s\nd = "
      "%(d)s\n"
      "e = 5 %\n");
  EXPECT_EQ(value(file, "a"), "/etc/glance/x-cache 100%");
  EXPECT_EQ(value(file, "b"), "/etc/glance/p.ini");
  EXPECT_EQ(value(file, "name"), "cache");
  EXPECT_EQ(value(file, "c"), "/etc/glance/p.ini:6: c: %(missing)s is set neither here nor in [DEFAULT]");
  EXPECT_THAT(value(file, "d"), HasSubstr("refers to itself"));
  EXPECT_THAT(value(file, "e"), HasSubstr("a percent sign is written %%"));
}

TEST(Paste, DoublingsOfDoublingsEnd) {
  std::string text = "[a:b]\nk0 =\n";
  for (int i = 1; i < 40; ++i) {
    const auto before = "%(k" + std::to_string(i - 1) + ")s";
    text += "k" + std::to_string(i) + " = " + before + before + "\n";
  }
  EXPECT_THAT(value(parsed(text), "k39"), HasSubstr("far too much"));
}

TEST(Paste, NamesHaveCaseAndBlanksAroundThemDoNotCount) {
  const auto file = parsed("[filter: Cache ]\n[filter:cache]\n[app:cache]\n");
  EXPECT_EQ((*file.find_filter("Cache"))->line, 1U);
  EXPECT_EQ((*file.find_filter("cache"))->line, 2U);
  EXPECT_EQ((*file.find_app("cache"))->line, 3U);
  EXPECT_EQ(*file.find_app("Cache"), nullptr);
}

TEST(Paste, TwoApplicationsOfOneNameAreRefusedAsByPaste) {
  const auto file = parsed("[pipeline:x]\n[composite:x]\n");
  const auto found = file.find_app("x");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().message,
            "/etc/glance/p.ini:2: [pipeline:x] and [composite:x] have the same name; glance-api would not know which");
}

TEST(Paste, WhatConfigParserRefusesIsRefusedWithItsLine) {
  EXPECT_EQ(mistake("key = value\n"), "p.ini:1: stands before the first [section]");
  EXPECT_EQ(mistake("[a:b]\n\nword\n"), "p.ini:3: neither [kind:name] nor 'key = value'");
  EXPECT_EQ(mistake("[a:b]\n= v\n"), "p.ini:2: neither [kind:name] nor 'key = value'");
  EXPECT_EQ(mistake("[a:b]\nk = 1\nk = 2\n"), "p.ini:3: k is in line 2 already");
  EXPECT_EQ(mistake("[a:b]\n[a:b]\n"), "p.ini:2: [a:b] is in line 1 already");
}

TEST(Paste, LinesMayEndInCarriageReturnsAndTheFileInNothing) {
  const auto file = parsed("\xEF\xBB\xBF[a:b]\r\nk = v\r\n  w\r\nl = last");
  EXPECT_EQ(value(file, "k"), "v\nw");
  EXPECT_EQ(value(file, "l"), "last");
}

}  // namespace
}  // namespace imagecache::config
