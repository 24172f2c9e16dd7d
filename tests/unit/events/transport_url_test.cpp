#include "events/transport_url.hpp"

#include <gmock/gmock.h>

namespace imagecache::events {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(TransportUrl, HasHostsWithCredentialsOfTheirOwn) {
  const auto url =
      parse_transport_url("rabbit://cinder:p%40ss%2Fw%3Ard@one:5673,other@two,[fd00::1]:5674/cinder%2Fprod");
  ASSERT_TRUE(url) << url.error().message;
  EXPECT_EQ(url->transport, "rabbit");
  EXPECT_EQ(url->virtual_host, "cinder/prod");
  ASSERT_EQ(url->hosts.size(), 3U);
  EXPECT_EQ(url->hosts[0].host, "one");
  EXPECT_EQ(url->hosts[0].port, 5673);
  EXPECT_EQ(url->hosts[0].user, "cinder");
  EXPECT_EQ(url->hosts[0].password, "p@ss/w:rd");
  EXPECT_EQ(url->hosts[1].host, "two");
  EXPECT_EQ(url->hosts[1].port, 5672);
  EXPECT_EQ(url->hosts[1].user, "other");
  EXPECT_EQ(url->hosts[2].host, "fd00::1");
  EXPECT_EQ(url->hosts[2].port, 5674);
  EXPECT_EQ(url->hosts[2].user, "guest");
}

TEST(TransportUrl, IsTheBrokerHereWhereItSaysNothing) {
  const auto url = parse_transport_url("rabbit://");
  ASSERT_TRUE(url) << url.error().message;
  ASSERT_EQ(url->hosts.size(), 1U);
  EXPECT_EQ(url->hosts[0].host, "localhost");
  EXPECT_EQ(url->hosts[0].user, "guest");
  EXPECT_EQ(url->virtual_host, "/");
}

TEST(TransportUrl, TheDefaultVirtualHostHasThreeSpellings) {
  for (const char* text : {"rabbit://h", "rabbit://h/", "rabbit://h//", "rabbit://h/%2F"})
    EXPECT_EQ(parse_transport_url(text).value().virtual_host, "/") << text;
}

TEST(TransportUrl, AUserMayHoldAnAt) {
  const auto url = parse_transport_url("rabbit://me@corp:pw@h:1/").value();
  EXPECT_EQ(url.hosts[0].user, "me@corp");
  EXPECT_EQ(url.hosts[0].password, "pw");
  EXPECT_EQ(url.hosts[0].host, "h");
}

TEST(TransportUrl, TheQueryOverridesOptions) {
  const auto url = parse_transport_url("rabbit://h:5671/v?ssl=1&ssl_ca_file=%2Fetc%2Fca.pem").value();
  EXPECT_EQ(url.query.at("ssl"), "1");
  EXPECT_EQ(url.query.at("ssl_ca_file"), "/etc/ca.pem");
  EXPECT_EQ(url.virtual_host, "v");
}

TEST(TransportUrl, AMistakeIsNamedWithoutThePassword) {
  for (const char* text :
       {"rabbit://u:hush@h:port/", "rabbit://u:hush@h:70000/", "u:hush@h", "rabbit://u:hu:sh@[::1/"}) {
    const auto url = parse_transport_url(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().code, Errc::invalid_argument);
    EXPECT_THAT(url.error().message, HasSubstr("transport_url"));
    EXPECT_THAT(url.error().message, Not(HasSubstr("hush")));
  }
}

TEST(TransportUrl, APasswordThatIsNotQuotedIsRefusedAndNotRepeated) {
  for (const auto* text : {"rabbit://cinder:/s3cret@rabbit:5672/", "rabbit://cinder:12/s3cret@rabbit:5672/"}) {
    const auto url = parse_transport_url(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().message.find("s3cret"), std::string::npos) << url.error().message;
  }
}

}  // namespace
}  // namespace imagecache::events
