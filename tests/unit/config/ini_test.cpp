#include "config/ini.hpp"

#include <gmock/gmock.h>

namespace imagecache::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// "section.key=value" of each entry, as oslo.config 9.0 gives them for the same text.
std::vector<std::string> entries_of(std::string_view text) {
  std::vector<std::string> found;
  for (const auto& entry : parse_ini(text).entries)
    found.push_back(entry.section + "." + entry.key + "=" + entry.value);
  return found;
}

std::vector<std::string> problems_of(std::string_view text) {
  std::vector<std::string> found;
  for (const auto& problem : parse_ini(text).problems) {
    found.push_back(std::to_string(problem.line) + ": " + problem.message);
  }
  return found;
}

TEST(Ini, TheFirstOfEqualsAndColonSeparates) {
  EXPECT_THAT(entries_of("[a]\nx = http://h:1/?q=2\ny: k=v\nz=\nw==\n"),
              ElementsAre("a.x=http://h:1/?q=2", "a.y=k=v", "a.z=", "a.w=="));
}

TEST(Ini, ABlankAtTheStartGoesOnWithTheValue) {
  EXPECT_THAT(entries_of("[a]\nx = 1,\n  2,\n\t3  \ny = 4\n"), ElementsAre("a.x=1,\n2,\n3", "a.y=4"));
  EXPECT_THAT(entries_of("[a]\nx =\n  one\n  two\n"), ElementsAre("a.x=\none\ntwo"));
}

TEST(Ini, CommentsStandInColumnZeroOnly) {
  EXPECT_THAT(entries_of("# a\n; b\n[a]\nx = 1 # not one\ny = 2 ; nor this\n#z = 3\n"),
              ElementsAre("a.x=1 # not one", "a.y=2 ; nor this"));
  EXPECT_THAT(entries_of("[a]\nx = 1\n  # part of the value\n"), ElementsAre("a.x=1\n# part of the value"));
}

TEST(Ini, ABlankLineOrACommentEndsAValue) {
  EXPECT_THAT(problems_of("[a]\nx = 1\n\n  2\n"),
              ElementsAre("4: starts with a blank, but there is no value to continue: '2'"));
  EXPECT_THAT(problems_of("[a]\nx = 1\n   \t\n  2\n").size(), 1);
  EXPECT_THAT(problems_of("[a]\nx = 1\n# c\n  2\n").size(), 1);
  EXPECT_THAT(problems_of("[a]\n  2\n").size(), 1);
}

TEST(Ini, OnePairOfMatchingQuotesIsDropped) {
  EXPECT_THAT(entries_of("[a]\nb = \" x \"\nc = 'y'\nd = \"z'\ne = \"\"q\"\"\nf = \"\ng = a \"b\"\n"),
              ElementsAre("a.b= x ", "a.c=y", "a.d=\"z'", "a.e=\"q\"", "a.f=", "a.g=a \"b\""));
}

TEST(Ini, SectionsComeAgainAndOnlyDefaultKeepsItsCase) {
  const auto file = parse_ini("[DEFAULT]\na=1\n[LVM-1]\nb=2\n[DEFAULT]\na=3\n[lvm-1]\nc=4\n[default]\nd=5\n");
  EXPECT_THAT(file.sections, ElementsAre("DEFAULT", "lvm-1", "default"));
  EXPECT_THAT(entries_of("[DEFAULT]\na=1\n[LVM-1]\nb=2\n[DEFAULT]\na=3\n[lvm-1]\nc=4\n[default]\nd=5\n"),
              ElementsAre("DEFAULT.a=1", "lvm-1.b=2", "DEFAULT.a=3", "lvm-1.c=4", "default.d=5"));
}

TEST(Ini, LinesMayEndAsOnWindowsOrNotAtAll) {
  EXPECT_THAT(entries_of("[a]\r\nx = 1\r\n  2\r\ny = 3"), ElementsAre("a.x=1\n2", "a.y=3"));
}

TEST(Ini, EveryEntryKnowsTheLineOfItsKey) {
  const auto file = parse_ini("# head\n\n[a]\nx = 1\n  2\n  3\ny = 4\n");
  ASSERT_EQ(file.entries.size(), 2U);
  EXPECT_EQ(file.entries[0].line, 4U);
  EXPECT_EQ(file.entries[1].line, 7U);
}

TEST(Ini, AllMistakesAreToldAtOnce) {
  const std::string text =
      "early = 1\n[a]\nno separator\n= no key\nx = fine\n[broken\n[]\n[tail] # comment\ny = in no section\n[b]\nz = "
      "1\n";
  EXPECT_THAT(problems_of(text),
              ElementsAre("1: 'early' stands before any [section]",
                          "3: neither a section nor 'key = value': 'no separator'", "4: there is no key before the '='",
                          "6: a section must end with ']', and nothing after it: '[broken'",
                          "7: a section needs a name between '[' and ']'",
                          "8: a section must end with ']', and nothing after it: '[tail] # comment'"));
  EXPECT_THAT(entries_of(text), ElementsAre("a.x=fine", "b.z=1"));
}

TEST(Ini, AMistakeInTheKeyIsToldOnceForAllItsLines) {
  EXPECT_EQ(problems_of("[a]\nno separator\n  more of it\n  and more\nx = 1\n").size(), 1U);
}

TEST(Ini, AMessageNeverShowsAValue) {
  EXPECT_THAT(problems_of("[a]\n\n  admin_password = secret\n"),
              ElementsAre("3: starts with a blank, but there is no value to continue: 'admin_password …'"));
}

TEST(Ini, AnEmptyTextIsFine) {
  EXPECT_THAT(entries_of(""), IsEmpty());
  EXPECT_THAT(problems_of("\n\n# only a comment"), IsEmpty());
}

}  // namespace
}  // namespace imagecache::config
