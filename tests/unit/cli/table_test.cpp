#include "cli/table.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/output.hpp"
#include "cli/progress.hpp"

namespace imagecache::cli {
namespace {

using nlohmann::json;

TEST(Table, LooksLikeTheOtherClients) {
  EXPECT_EQ(render_table({{"ID"}, {"Size", true}}, {{"a", "12"}, {"bcd", "1234567"}}),
            "+-----+---------+\n"
            "| ID  | Size    |\n"
            "+-----+---------+\n"
            "| a   |      12 |\n"
            "| bcd | 1234567 |\n"
            "+-----+---------+\n");
}

TEST(Table, WithoutRowsHasItsHeader) {
  EXPECT_EQ(render_table({{"ID"}}, {}), "+----+\n| ID |\n+----+\n+----+\n");
}

TEST(Table, CountsLettersNotBytes) {
  EXPECT_EQ(render_table({{"N"}}, {{"häß"}, {"abc"}}), "+-----+\n| N   |\n+-----+\n| häß |\n| abc |\n+-----+\n");
}

TEST(Table, ANameCannotMoveTheTerminalsCursor) {
  EXPECT_EQ(printable("a\x1b[2Jb\nc\x7f"), "a?[2Jb?c?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m");
  EXPECT_EQ(printable("é"), "é");
}

TEST(Output, ShowsSizesInWordsInATableAndAsNumbersInJson) {
  const std::vector<Column> columns = {
      {"Image", "id"}, {"Size", "size", Kind::bytes}, {"Hits", "usage.hits", Kind::number}};
  const json rows = {{{"id", "a"}, {"size", 1536}, {"usage", {{"hits", 3}}}}, {{"id", "b"}}};
  std::ostringstream table;
  Output(table, Format::table).list(columns, rows);
  EXPECT_EQ(table.str(),
            "+-------+---------+------+\n"
            "| Image | Size    | Hits |\n"
            "+-------+---------+------+\n"
            "| a     | 1.5 KiB |    3 |\n"
            "| b     |         |      |\n"
            "+-------+---------+------+\n");
  std::ostringstream text;
  Output(text, Format::json).list(columns, rows);
  EXPECT_EQ(json::parse(text.str()), rows);
}

TEST(Output, ARecordGoesDownIntoObjects) {
  std::ostringstream table;
  Output(table, Format::table)
      .record({{"cache", {{"used_bytes", 1048576}, {"full", false}}}, {"tags", {"a", "b"}}, {"none", nullptr}});
  EXPECT_EQ(table.str(),
            "+------------------+---------+\n"
            "| Field            | Value   |\n"
            "+------------------+---------+\n"
            "| cache.full       | false   |\n"
            "| cache.used_bytes | 1.0 MiB |\n"
            "| none             |         |\n"
            "| tags             | a, b    |\n"
            "+------------------+---------+\n");
}

TEST(Output, CellsTakeWhatTheyGet) {
  EXPECT_EQ(format_cell(1700000000.5, Kind::epoch), "2023-11-14T22:13:20");
  EXPECT_EQ(format_cell(1e300, Kind::epoch), "");
  EXPECT_EQ(format_cell(-1, Kind::bytes), "-1");
  EXPECT_EQ(format_cell("12 apples", Kind::bytes), "12 apples");
  EXPECT_EQ(format_cell(5, Kind::gib), "5 GiB");
  EXPECT_EQ(format_cell(json::object(), Kind::text), "{}");
  EXPECT_EQ(format_cell(true, Kind::number), "true");
}

TEST(Progress, IsALineOfBytesOnATerminalOnly) {
  EXPECT_EQ(describe_progress("download", 512, 2048), "download: 512 B of 2.0 KiB, 25 %");
  EXPECT_EQ(describe_progress("download", 512, 0), "download: 512 B");
  EXPECT_EQ(describe_progress("queued", 0, 0), "queued…");
  EXPECT_EQ(describe_progress("convert", 4096, 2048), "convert: 4.0 KiB of 2.0 KiB, 100 %");
  std::ostringstream pipe;
  {
    Progress progress(pipe, false);
    progress.show("download", 1, 2);
  }
  EXPECT_EQ(pipe.str(), "");
  std::ostringstream terminal;
  {
    Progress progress(terminal, true);
    progress.show("download", 1, 2);
    progress.show("x", 1, 2);
  }
  EXPECT_EQ(terminal.str(), "\rdownload: 1 B of 2 B, 50 %\rx: 1 B of 2 B, 50 %       \r" + std::string(19, ' ') + "\r");
}

}  // namespace
}  // namespace imagecache::cli
