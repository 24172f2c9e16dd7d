#include "events/counters.hpp"

#include <gmock/gmock.h>

#include <memory>
#include <set>
#include <string>

namespace imagecache::events {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(Counters, EveryMemberHasARowOfItsOwn) {
  // Counters is atomics and nothing else: as many as fit in it there must be, and no row may show another's value.
  Counters counters;
  const auto before = snapshot(counters);
  ASSERT_EQ(before.size(), sizeof(Counters) / sizeof(Counter));
  auto* first = reinterpret_cast<Counter*>(&counters);
  for (std::size_t i = 0; i < before.size(); ++i) first[i] = 1000 + i;
  std::set<std::uint64_t> seen;
  for (const auto& value : snapshot(counters)) seen.insert(value.value);
  EXPECT_EQ(seen.size(), before.size());
  EXPECT_EQ(*seen.begin(), 1000U);
}

TEST(Counters, NamesKeepPrometheusConventions) {
  const Counters counters;
  std::set<std::pair<std::string_view, std::string_view>> series;
  std::set<std::string_view> closed;
  std::string_view open;
  for (const auto& value : snapshot(counters)) {
    const std::string name(value.name);
    EXPECT_THAT(name, StartsWith("imagecache_"));
    if (value.gauge) {
      EXPECT_THAT(name, Not(EndsWith("_total")));
    } else {
      EXPECT_THAT(name, EndsWith("_total"));
    }
    EXPECT_FALSE(value.help.empty()) << name;
    EXPECT_TRUE(series.emplace(value.name, value.label_value).second) << name << " is there twice";
    EXPECT_EQ(value.label_name.empty(), value.label_value.empty()) << name;
    const std::set<std::string_view> labels = {"", "result", "reason", "answered_by"};
    EXPECT_TRUE(labels.contains(value.label_name)) << name;
    EXPECT_GE(value.divisor, 1U) << name;
    if (value.name != open) {
      EXPECT_TRUE(closed.insert(open).second) << open << ": rows of one name must stand together";
      open = value.name;
    }
  }
}

TEST(Counters, TimesAreShownInSeconds) {
  Counters counters;
  counters.fill_microseconds = 2'500'000;
  EXPECT_THAT(prometheus_text(counters), HasSubstr("imagecache_fill_seconds_total 2.5\n"));
}

TEST(Counters, TextHasHelpTypeAndLabels) {
  Counters counters;
  counters.image_hits = 3;
  counters.image_cache_bytes = 1;
  counters.fill_bytes = 9'007'199'254'740'992;  // the largest that a double holds with all its neighbours below
  const auto text = prometheus_text(counters);
  EXPECT_THAT(text, HasSubstr("# HELP imagecache_image_requests_total Requests for an image's bytes, by result\n"
                              "# TYPE imagecache_image_requests_total counter\n"
                              "imagecache_image_requests_total{result=\"hit\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE imagecache_image_cache_bytes gauge\nimagecache_image_cache_bytes 1\n"));
  EXPECT_THAT(text, HasSubstr("imagecache_fill_bytes_total 9007199254740992\n"));
}

}  // namespace
}  // namespace imagecache::events
