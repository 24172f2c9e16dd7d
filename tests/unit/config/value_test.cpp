#include <gmock/gmock.h>

#include "config/bind_address.hpp"
#include "config/options.hpp"

namespace imagecache::config {
namespace {

// What `text` means as `type`, as format_value prints it; "unset"; or the error's message.
std::string meaning(Option option, std::string_view text) {
  auto value = parse_value(option, text);
  if (!value) return "! " + value.error().message;
  return *value ? format_value(**value) : "unset";
}

Option of(Type type) {
  return {.section = "DEFAULT", .name = "x", .type = type};
}

TEST(Value, BooleansAreWhatOsloTakes) {
  for (const auto* yes : {"true", "True", "YES", "on", "1"}) EXPECT_EQ(meaning(of(Type::boolean), yes), "true") << yes;
  for (const auto* no : {"false", "No", "OFF", "0"}) EXPECT_EQ(meaning(of(Type::boolean), no), "false") << no;
  for (const auto* bad : {"", "2", "y", "truee", "enabled"}) {
    EXPECT_EQ(meaning(of(Type::boolean), bad), "! must be true or false (also 1/0, yes/no, on/off)") << bad;
  }
}

TEST(Value, IntegersAreWhatPythonTakes) {
  EXPECT_EQ(meaning(of(Type::integer), " 42 "), "42");
  EXPECT_EQ(meaning(of(Type::integer), "+5"), "5");
  EXPECT_EQ(meaning(of(Type::integer), "-7"), "-7");
  EXPECT_EQ(meaning(of(Type::integer), "1_000_000"), "1000000");
  EXPECT_EQ(meaning(of(Type::integer), "007"), "7");
  EXPECT_EQ(meaning(of(Type::integer), ""), "unset");
  for (const auto* bad :
       {"ten", "1.5", "0x10", "1__0", "_1", "1_", "-_1", "+-1", "--1", "10G", "99999999999999999999"}) {
    EXPECT_EQ(meaning(of(Type::integer), bad), "! must be a whole number") << bad;
  }
}

TEST(Value, ARangeIsToldInTheMessage) {
  auto option = of(Type::integer);
  option.min = 0;
  EXPECT_EQ(meaning(option, "-1"), "! must be a whole number, at least 0");
  option.max = 9;
  EXPECT_EQ(meaning(option, "10"), "! must be a whole number from 0 to 9");
  EXPECT_EQ(meaning(option, "9"), "9");
}

TEST(Value, SizesMayHaveUnits) {
  EXPECT_EQ(meaning(of(Type::size), "512"), "512");
  EXPECT_EQ(meaning(of(Type::size), "64 MiB"), "67108864");
  EXPECT_EQ(meaning(of(Type::size), "10G"), "10737418240");
  EXPECT_EQ(meaning(of(Type::size), "1kb"), "1024");
  for (const auto* bad : {"-1", "1.5G", "10X", "G", "9999999999T", "1 0"}) {
    EXPECT_TRUE(meaning(of(Type::size), bad).starts_with("! must be a size in bytes")) << bad;
  }
}

TEST(Value, ListsDropBlanksAndTheLastComma) {
  EXPECT_EQ(meaning(of(Type::list), " a , b,\nc,, "), "a,b,c");
  EXPECT_EQ(meaning(of(Type::list), "a,,b"), "a,,b");
  EXPECT_EQ(meaning(of(Type::list), ""), "");
  EXPECT_EQ(meaning(of(Type::list), " , "), "");
}

TEST(Value, ChoicesHaveNoCase) {
  auto option = of(Type::string);
  option.choices = "sqlite,xattr";
  EXPECT_EQ(meaning(option, "SQLite"), "sqlite");
  EXPECT_EQ(meaning(option, "mysql"), "! must be one of sqlite, xattr");
}

TEST(Value, PathsAreAbsolute) {
  EXPECT_EQ(meaning(of(Type::path), "/var/lib/x"), "/var/lib/x");
  EXPECT_EQ(meaning(of(Type::path), "x"), "! must be an absolute path");
  EXPECT_EQ(meaning(of(Type::path), "/a\n/b"), "! must be an absolute path");
  EXPECT_EQ(meaning(of(Type::path), ""), "unset");
}

TEST(Value, AnOriginIsUrlsOrOneDirectory) {
  EXPECT_EQ(meaning(of(Type::origins), "http://a:9292, https://b/image"), "http://a:9292,https://b/image");
  EXPECT_EQ(meaning(of(Type::origins), "file:///srv/images"), "file:///srv/images");
  EXPECT_EQ(meaning(of(Type::origins), ""), "unset");
  for (const auto* bad :
       {"file:///a,file:///b", "file:///a,http://b", "glance:9292", "http://", "file://a", "/srv", ","}) {
    if (std::string_view(bad) == ",") continue;
    EXPECT_TRUE(meaning(of(Type::origins), bad).starts_with("! must be a list of http://")) << bad;
  }
}

TEST(BindAddress, HasThreeForms) {
  const auto tcp = parse_bind_address("127.0.0.1:9393");
  ASSERT_TRUE(tcp);
  EXPECT_EQ(tcp->host, "127.0.0.1");
  EXPECT_EQ(tcp->port, 9393);
  EXPECT_TRUE(tcp->is_loopback());

  const auto v6 = parse_bind_address("[::1]:80");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->host, "::1");
  EXPECT_TRUE(v6->is_loopback());
  EXPECT_EQ(v6->to_string(), "[::1]:80");

  const auto local = parse_bind_address("unix:/run/x.sock");
  ASSERT_TRUE(local);
  EXPECT_EQ(local->unix_path, "/run/x.sock");
  EXPECT_TRUE(local->is_loopback());
  EXPECT_EQ(local->to_string(), "unix:/run/x.sock");
}

TEST(BindAddress, OnlyThisHostIsLoopback) {
  for (const auto* address : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example:1", "127.evil.example:1"}) {
    const auto parsed = parse_bind_address(address);
    ASSERT_TRUE(parsed) << address;
    EXPECT_FALSE(parsed->is_loopback()) << address;
  }
  EXPECT_TRUE(parse_bind_address("localhost:1")->is_loopback());
  EXPECT_TRUE(parse_bind_address("127.1.2.3:1")->is_loopback());
}

TEST(BindAddress, RefusesWhatIsNone) {
  for (const auto* bad : {"", "9393", ":9393", "a:", "a:b", "a:65536", "::1:80", "[::1]", "[x]:1", "unix:", "unix:rel",
                          "a b:1", "http://a:1", "a:-1"}) {
    EXPECT_FALSE(parse_bind_address(bad)) << bad;
  }
  EXPECT_FALSE(parse_bind_address("unix:/" + std::string(108, 'x')));
}

}  // namespace
}  // namespace imagecache::config
