// Who asks, in which project, and what he is told who is refused.
#include <gmock/gmock.h>

#include "cli_fixture.hpp"
#include "fake_daemon.hpp"

namespace imagecache::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Who : public CliTest {
 protected:
  Who() {
    login_ = [this](const config::Config*, const std::optional<KeystoneLogin>&) -> Result<LoggedIn> {
      ++logins_;
      return LoggedIn{.token = "from-keystone", .project_id = "of-the-token"};
    };
    project_of_ = [this](const config::Config*, const std::optional<KeystoneLogin>&,
                         const std::string& token) -> Result<std::string> {
      asked_of_.push_back(token);
      return "of-" + token;
    };
  }
  int run_at(const FakeDaemon& daemon, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--url", "http://" + daemon.address()});
    return run(arguments);
  }
  static FakeDaemon::Script always(int status, std::string body) {
    return [=](const SeenRequest&) { return Answer{status, body}; };
  }

  int logins_ = 0;
  std::vector<std::string> asked_of_;
};

TEST_F(Who, TheProjectIsTheOneThatTheTokenIsOf) {
  environment_ = {{"OS_AUTH_URL", "http://k"}, {"OS_PROJECT_NAME", "demo"}};
  FakeDaemon daemon(always(200, R"({"volumes": []})"));
  EXPECT_EQ(run_at(daemon, {"volumes", "list"}), 0) << err();
  EXPECT_THAT(daemon.lines().back(), HasSubstr("/v3/of-the-token/volumes"));
  environment_["OS_PROJECT_ID"] = "said";
  EXPECT_EQ(run_at(daemon, {"volumes", "list"}), 0) << err();
  EXPECT_THAT(daemon.lines().back(), HasSubstr("/v3/said/volumes"));
}

TEST_F(Who, AGivenTokensProjectIsTheDaemonsToKnowAndKeystonesWhereItMustBeNamed) {
  environment_ = {{"OS_TOKEN", "mine"}};
  FakeDaemon daemon(always(200, "{}"));
  EXPECT_EQ(run_at(daemon, {"volumes", "list"}), 0) << err();
  EXPECT_THAT(daemon.lines(), ElementsAre("GET /v3/volumes/detail?limit=1000"));
  EXPECT_THAT(asked_of_, IsEmpty());
  EXPECT_EQ(run_at(daemon, {"quota", "show"}), 0) << err();
  EXPECT_EQ(daemon.lines().back(), "GET /v3/os-quota-sets/of-mine?usage=True");
  EXPECT_THAT(asked_of_, ElementsAre("mine"));
  EXPECT_EQ(run_at(daemon, {"quota", "show", "--project", "p"}), 0) << err();
  EXPECT_EQ(daemon.lines().back(), "GET /v3/os-quota-sets/p?usage=True");
  EXPECT_EQ(run_at(daemon, {"quota", "show", "--os-token", "user:demo"}), 0) << err();
  EXPECT_EQ(daemon.lines().back(), "GET /v3/demo/os-quota-sets/demo?usage=True") << "noauth's tokens name it";
  EXPECT_EQ(asked_of_.size(), 1U);
  EXPECT_EQ(logins_, 0);
}

TEST_F(Who, ALoginThatFailsIsNotTriedAgain) {
  login_ = [this](const config::Config*, const std::optional<KeystoneLogin>&) -> Result<LoggedIn> {
    ++logins_;
    return fail(Errc::unauthenticated, "http://k: the password is not accepted");
  };
  environment_ = {{"OS_AUTH_URL", "http://k"}, {"OS_USERNAME", "u"}};
  FakeDaemon daemon(always(200, "{}"));
  int times = 0;
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"quota", "show"}, {"volumes", "list"}, {"image-volumes", "list"}, {"images", "delete", "i1", "i2"}}) {
    EXPECT_EQ(run_at(daemon, command), 1);
    EXPECT_THAT(err(), HasSubstr("the password is not accepted"));
    EXPECT_EQ(logins_, ++times) << command[0];
  }
  EXPECT_EQ(run_at(daemon, {"quota", "show"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: http://k: the password is not accepted\n");
  EXPECT_THAT(daemon.lines(), IsEmpty());
}

TEST_F(Who, A401SaysWhatIsWrongWithTheToken) {
  FakeDaemon daemon(always(401, R"({"error": {"message": "Who are you?"}})"));
  EXPECT_EQ(run_at(daemon, {"volumes", "list"}), 1);
  EXPECT_THAT(err(), HasSubstr("Who are you? (HTTP 401): the daemon checks tokens; give --os-token, or OS_AUTH_URL"));
  EXPECT_EQ(run_at(daemon, {"volumes", "list", "--os-token", "old"}), 1);
  EXPECT_THAT(err(), HasSubstr("is wrong, has expired or was revoked; give --os-token, or OS_AUTH_URL"));
  environment_ = {{"OS_AUTH_URL", "http://k"}};
  EXPECT_EQ(run_at(daemon, {"volumes", "list"}), 1);
  EXPECT_THAT(err(), HasSubstr("do both ask the same Keystone?"));
}

TEST_F(Who, AnotherProjectsTokenIsToldFromABadUrl) {
  FakeDaemon daemon(always(400, R"({"badRequest": {"message": "Malformed request url", "code": 400}})"));
  EXPECT_EQ(run_at(daemon, {"volumes", "list", "--os-token", "mine", "--os-project-id", "theirs"}), 1);
  EXPECT_THAT(err(), HasSubstr("the token is not one of project theirs"));
}

}  // namespace
}  // namespace imagecache::cli
