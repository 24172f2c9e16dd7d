#include "api/list_query.hpp"

#include <gtest/gtest.h>

namespace imagecache::api {
namespace {

catalog::Volume volume(const std::string& id, std::uint64_t size_gb, int second, const std::string& name = "") {
  catalog::Volume row;
  row.id = id;
  row.size_gb = size_gb;
  row.status = "available";
  row.display_name = name;
  row.created_at = base::WallTime(std::chrono::seconds(1'700'000'000 + second));
  return row;
}

Result<ListQuery> parse(std::string_view query, bool is_admin = true, Microversion version = newest_version) {
  return parse_list_query(http::parse_query(query), version, 1000, is_admin);
}

std::string ids(const Page& page) {
  std::string text;
  for (const auto& row : page.volumes) text += row.id;
  return text;
}

std::string listed(std::string_view query, std::vector<catalog::Volume> rows) {
  const auto parsed = parse(query);
  if (!parsed) return parsed.error().message;
  const auto page = make_page(std::move(rows), *parsed);
  return page ? ids(*page) : page.error().message;
}

std::vector<catalog::Volume> three() {
  return {volume("a", 3, 1, "web"), volume("b", 1, 2, "web"), volume("c", 2, 3, "db")};
}

TEST(ListQuery, TheNewestComesFirst) {
  EXPECT_EQ(listed("", three()), "cba");
}

TEST(ListQuery, TheSameMomentIsOrderedById) {
  EXPECT_EQ(listed("", {volume("x", 1, 1), volume("z", 1, 1), volume("y", 1, 1)}), "zyx");
  EXPECT_EQ(listed("sort=created_at:asc", {volume("x", 1, 1), volume("z", 1, 1), volume("y", 1, 1)}), "xyz");
}

TEST(ListQuery, SortsByTheKeysInTheirOrder) {
  EXPECT_EQ(listed("sort=size:asc", three()), "bca");
  EXPECT_EQ(listed("sort=name:asc,size", three()), "cab");
  EXPECT_EQ(listed("sort_key=size&sort_dir=asc", three()), "bca");
}

TEST(ListQuery, OldAndNewSortParametersDoNotMix) {
  EXPECT_EQ(parse("sort=size&sort_key=size").error().code, Errc::invalid_argument);
  EXPECT_EQ(parse("sort=colour").error().message, "Invalid input received: colour is an invalid sort key.");
  EXPECT_EQ(parse("sort=size:sideways").error().code, Errc::invalid_argument);
}

TEST(ListQuery, PagesFollowEachOtherWithoutGapOrOverlap) {
  EXPECT_EQ(listed("limit=2", three()), "cb");
  EXPECT_EQ(listed("limit=2&marker=b", three()), "a");
  EXPECT_EQ(listed("limit=2&marker=a", three()), "");
  EXPECT_EQ(listed("limit=1&offset=1", three()), "b");
  EXPECT_EQ(listed("offset=9", three()), "");
  EXPECT_EQ(listed("limit=0", three()), "");
}

TEST(ListQuery, AnUnknownMarkerIsNotFound) {
  const auto page = make_page(three(), *parse("marker=nowhere"));
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().code, Errc::not_found);
  EXPECT_EQ(page.error().message, "Volume nowhere could not be found.");
}

TEST(ListQuery, ALimitIsANumberAndIsCut) {
  EXPECT_EQ(parse("limit=-1").error().message,
            "Invalid input for query parameters limit. Value: -1. '-1' does not match '^[0-9]*$'");
  EXPECT_FALSE(parse("limit=99999999999999999999999"));
  EXPECT_EQ(parse("limit=5000")->limit, 1000U);
}

TEST(ListQuery, FiltersByWhatARowHolds) {
  auto rows = three();
  rows[0].metadata = {{"role", "boot"}, {"tier", "1"}};
  rows[1].bootable = true;
  rows[2].availability_zone = "east";
  EXPECT_EQ(listed("name=web", rows), "ba");
  EXPECT_EQ(listed("name~=we", rows), "ba");
  EXPECT_EQ(listed("size=2", rows), "c");
  EXPECT_EQ(listed("bootable=true", rows), "b");
  EXPECT_EQ(listed("bootable=false", rows), "ca");
  EXPECT_EQ(listed("availability_zone=east", rows), "c");
  EXPECT_EQ(listed("metadata=%7B%27role%27%3A+%27boot%27%7D", rows), "a");
  EXPECT_EQ(listed("metadata=%7B%27role%27%3A+%27data%27%7D", rows), "");
  EXPECT_EQ(listed("metadata=%7B%27role", rows), "");
  EXPECT_EQ(listed("status=error", rows), "");
}

TEST(ListQuery, FiltersByTime) {
  EXPECT_EQ(listed("created_at=gt:2023-11-14T22:13:21", three()), "cb");
  EXPECT_EQ(listed("created_at=gte:2023-11-14T22:13:21,lt:2023-11-14T22:13:23", three()), "ba");
  EXPECT_EQ(listed("created_at=2023-11-14T22:13:22", three()), "b");
}

TEST(ListQuery, AColumnThatIsNotThereIsNothingForAdminsAndIgnoredForUsers) {
  EXPECT_EQ(listed("colour=red", three()), "");
  EXPECT_FALSE(parse("colour=red", false)->matches_nothing);
}

TEST(ListQuery, OnlyAnAdminSeesAllProjects) {
  EXPECT_TRUE(parse("all_tenants=1")->all_projects);
  EXPECT_FALSE(parse("all_tenants=0")->all_projects);
  EXPECT_FALSE(parse("all_tenants=1", false)->all_projects);
  EXPECT_EQ(parse("all_tenants=maybe").error().code, Errc::invalid_argument);
}

TEST(ListQuery, CountsOnlyForVersionsThatKnowIt) {
  EXPECT_TRUE(parse("with_count=true")->with_count);
  EXPECT_FALSE(parse("with_count=true", true, Microversion{3, 44})->with_count);
  EXPECT_EQ(make_page(three(), *parse("with_count=true&limit=1"))->total, 3U);
}

TEST(ListQuery, TheNextLinkKeepsTheQueryAndMovesTheMarker) {
  EXPECT_EQ(next_link("http://h:1", "/v3/demo/volumes", "limit=2&marker=old&name=a%20b", "new")[0]["href"],
            "http://h:1/v3/demo/volumes?limit=2&name=a%20b&marker=new");
}

}  // namespace
}  // namespace imagecache::api
