// images: which door is taken, what each verb asks of it, and what is said of the outcome.
#include <gmock/gmock.h>

#include "cli_fixture.hpp"
#include "fake_daemon.hpp"

namespace imagecache::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Images : public CliTest {
 protected:
  Images() {
    offline_ = [this](const config::Config&, const ImagesRequest& request) -> Result<ImagesReport> {
      asked_.push_back(request);
      if (request.on_progress) request.on_progress("i1", 512, 1024);
      return report_;
    };
  }

  /// A configuration whose daemon listens there.
  std::string at(const std::string& image, const std::string& status = "127.0.0.1:1", const std::string& more = "") {
    return write("x.conf",
                 "[image_cache_service]\nimage_api_bind = " + image + "\nstatus_bind = " + status + "\n" + more);
  }
  std::string nobody() {
    FakeDaemon daemon([](const SeenRequest&) { return Answer{}; });
    const auto address = daemon.address();
    return at(address);
  }
  int run_with(const std::string& config, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--config-file", config});
    return run(arguments);
  }

  Result<ImagesReport> report_ = ImagesReport{};
  std::vector<ImagesRequest> asked_;
};

TEST_F(Images, WithoutADaemonTheDirectoryIsWorkedOn) {
  const auto config = nobody();
  const std::vector<std::pair<std::vector<std::string>, ImagesAction>> verbs = {
      {{"list"}, ImagesAction::list},
      {{"queue", "i1"}, ImagesAction::queue},
      {{"cache", "i1"}, ImagesAction::queue},
      {{"cache", "i1", "--wait"}, ImagesAction::prefetch},
      {{"prefetch"}, ImagesAction::prefetch},
      {{"delete", "i1"}, ImagesAction::remove},
      {{"clear"}, ImagesAction::clear_all},
      {{"clear", "--target", "cache"}, ImagesAction::clear_cache},
      {{"clear", "--target", "queue"}, ImagesAction::clear_queue},
      {{"prune"}, ImagesAction::prune},
      {{"clean"}, ImagesAction::clean},
      {{"pin", "i1"}, ImagesAction::pin},
      {{"unpin", "i1"}, ImagesAction::unpin},
  };
  for (const auto& [verb, action] : verbs) {
    asked_.clear();
    std::vector<std::string> arguments = {"images"};
    arguments.insert(arguments.end(), verb.begin(), verb.end());
    EXPECT_EQ(run_with(config, arguments), 0) << verb[0] << err();
    ASSERT_EQ(asked_.size(), 1U) << verb[0];
    EXPECT_EQ(asked_[0].action, action) << verb[0];
    const bool named = verb.size() > 1 && verb[1] == "i1";
    EXPECT_EQ(asked_[0].ids.size(), named ? 1U : 0U) << verb[0];
  }
}

TEST_F(Images, ADaemonThatListensIsAsked) {
  FakeDaemon daemon([](const SeenRequest&) { return Answer{204, ""}; });
  EXPECT_EQ(run_with(at(daemon.address()), {"images", "delete", "i1"}), 0) << err();
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_EQ(run_with(at(daemon.address()), {"images", "delete", "i1", "--offline"}), 0) << err();
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(Images, AnAnswerOfItsFailureIsNoReasonToWorkBehindItsBack) {
  FakeDaemon daemon([](const SeenRequest&) { return Answer{503, ""}; });
  EXPECT_EQ(run_with(at(daemon.address()), {"images", "prune"}), 1);
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(Images, OnlineAndAUrlMeanTheDaemonAlone) {
  const auto config = nobody();
  EXPECT_EQ(run_with(config, {"images", "prune", "--online"}), 1);
  EXPECT_THAT(err(), HasSubstr("cannot reach the daemon"));
  EXPECT_EQ(run_with(config, {"images", "prune", "--url", "http://127.0.0.1:1"}), 1);
  EXPECT_THAT(err(), HasSubstr("cannot reach the daemon at http://127.0.0.1:1"));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_EQ(run_with(config, {"images", "prune", "--online", "--offline"}), 2);
}

TEST_F(Images, GlancesWordsAreToldOnOneLine) {
  FakeDaemon daemon([](const SeenRequest&) {
    return Answer{404, R"({"message": "Image i1 not found.<br /><br />\n\n\n", "code": "404 Not Found"})"};
  });
  EXPECT_EQ(run_with(at(daemon.address()), {"images", "queue", "i1"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: image i1: Image i1 not found. (HTTP 404)\n");
}

TEST_F(Images, ADaemonThatRunsButDoesNotListenIsNamed) {
  report_ = fail(Errc::conflict, "/state: process 4711 (cinder-image-cache serve) holds this state directory");
  EXPECT_EQ(run_with(nobody(), {"images", "prune"}), 1);
  EXPECT_THAT(err(), HasSubstr("process 4711 (cinder-image-cache serve) holds"));
  EXPECT_THAT(err(), HasSubstr("nobody listens at http://127.0.0.1:"));
}

TEST_F(Images, APortThatCannotBeKnownIsNobody) {
  EXPECT_EQ(run_with(at("127.0.0.1:0"), {"images", "prune"}), 0) << err();
  EXPECT_EQ(asked_.size(), 1U);
  report_ = fail(Errc::conflict, "/state: held");
  EXPECT_EQ(run_with(at("127.0.0.1:0"), {"images", "prune"}), 1);
  EXPECT_THAT(err(), HasSubstr("image_api_bind has port 0"));
}

TEST_F(Images, AUnixSocketThatIsNotThereIsNobody) {
  EXPECT_EQ(run_with(at("unix:" + (directory_ / "none.sock").native()), {"images", "clean"}), 0) << err();
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(Images, ABrokenConfigurationIsToldAndNothingIsDone) {
  EXPECT_EQ(run_with(write("y.conf", "[image_cache_service]\nimage_api_bind = nonsense\n"), {"images", "prune"}), 1);
  EXPECT_THAT(err(), HasSubstr("image_api_bind = nonsense"));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(Images, FailuresOfSomeAreToldByImageAndExitIsOne) {
  report_ = ImagesReport{.outcomes = {{"i1", std::nullopt},
                                      {"i2", Error{Errc::not_found, "image i2 at http://g: answered 404"}},
                                      {"i3", Error{Errc::no_space, "no room"}}}};
  const auto config = nobody();
  EXPECT_EQ(run_with(config, {"images", "prefetch"}), 1);
  EXPECT_EQ(out(), "image i1: cached\n");
  EXPECT_EQ(err(),
            "cinder-image-cache: image i2 at http://g: answered 404\n"
            "cinder-image-cache: image i3: no room\n");
  EXPECT_EQ(run_with(config, {"images", "prefetch", "-f", "json"}), 1);
  ASSERT_EQ(json().size(), 3U);
  EXPECT_EQ(json()[0].dump(), R"({"image_id":"i1","result":"cached"})");
  EXPECT_EQ(json()[2].dump(), R"({"error":"no room","image_id":"i3","result":"failed"})");
}

TEST_F(Images, QuietPrintsFailuresAlone) {
  report_ = ImagesReport{.outcomes = {{"i1", std::nullopt}}, .files = 2, .bytes = 1024};
  const auto config = nobody();
  for (const auto* verb : {"prefetch", "prune", "clean"}) {
    EXPECT_EQ(run_with(config, {"images", verb, "--quiet"}), 0);
    EXPECT_EQ(out() + err(), "") << verb;
  }
  EXPECT_EQ(run_with(config, {"images", "prune"}), 0);
  EXPECT_EQ(out(), "pruned 2 image(s), 1.0 KiB\n");
  EXPECT_EQ(run_with(config, {"images", "prune", "-f", "json"}), 0);
  EXPECT_EQ(json().dump(), R"({"total_bytes_pruned":1024,"total_files_pruned":2})");
}

TEST_F(Images, NamesThatCronLinesKnowAreVerbs) {
  EXPECT_THAT(arguments_of_name("/usr/bin/cinder-image-cache-pruner"), ElementsAre("images", "prune", "--quiet"));
  EXPECT_THAT(arguments_of_name("cinder-image-cache-cleaner"), ElementsAre("images", "clean", "--quiet"));
  EXPECT_THAT(arguments_of_name("./cinder-image-cache-prefetcher"), ElementsAre("images", "prefetch", "--quiet"));
  EXPECT_THAT(arguments_of_name("/usr/bin/cinder-image-cache"), IsEmpty());
  EXPECT_THAT(arguments_of_name(""), IsEmpty());
}

TEST_F(Images, TheListHasPinsWhereTheyAreKnown) {
  report_ = ImagesReport{.images = {{.image_id = "i1",
                                     .state = "cached",
                                     .size_bytes = 1048576,
                                     .hits = 2,
                                     .last_accessed = 1700000000.5,
                                     .last_modified = 1,
                                     .pinned = true},
                                    {.image_id = "i2", .state = "queued", .pinned = false},
                                    {.image_id = "i3", .state = "pinned", .pinned = true}}};
  const auto config = nobody();
  EXPECT_EQ(run_with(config, {"images", "list"}), 0) << err();
  EXPECT_EQ(out(),
            "+-------+--------+---------+------+---------------------+--------+\n"
            "| Image | State  | Size    | Hits | Last used           | Pinned |\n"
            "+-------+--------+---------+------+---------------------+--------+\n"
            "| i1    | cached | 1.0 MiB |    2 | 2023-11-14T22:13:20 | true   |\n"
            "| i2    | queued |         |      |                     | false  |\n"
            "| i3    | pinned |         |      |                     | true   |\n"
            "+-------+--------+---------+------+---------------------+--------+\n");
}

TEST_F(Images, TheDaemonsListIsJoinedWithItsPinsPageByPage) {
  FakeDaemon status([](const SeenRequest& request) {
    if (!request.line.contains("marker")) {
      return Answer{200, R"({"images":[{"image_id":"i1","state":"cached","pinned":true},)"
                         R"({"image_id":"i2","state":"queued","pinned":false}]})"};
    }
    if (request.line.ends_with("marker=i2")) {
      return Answer{200, R"({"images":[{"image_id":"i7","state":"cached","pinned":false},)"
                         R"({"image_id":"i8","state":"filling","pinned":false},)"
                         R"({"image_id":"i9","state":"pinned","pinned":true}]})"};
    }
    return Answer{200, R"({"images":[]})"};
  });
  FakeDaemon image([](const SeenRequest&) {
    return Answer{200, R"({"cached_images":[{"image_id":"i1","hits":1,"size":5,"last_accessed":2.5,)"
                       R"("last_modified":1}],"queued_images":["i2"]})"};
  });
  EXPECT_EQ(run_with(at(image.address(), status.address()), {"images", "list", "-f", "json"}), 0) << err();
  ASSERT_EQ(json().size(), 4U) << out();
  EXPECT_EQ(json()[0].at("pinned"), true);
  EXPECT_EQ(json()[1].at("pinned"), false);
  EXPECT_EQ(json()[2].dump(), R"({"image_id":"i8","pinned":false,"state":"filling"})");
  EXPECT_EQ(json()[3].dump(), R"({"image_id":"i9","pinned":true,"state":"pinned"})");
  EXPECT_EQ(status.lines().size(), 3U);
}

TEST_F(Images, PinsAreSetOnTheStatusPort) {
  FakeDaemon status([](const SeenRequest& request) {
    return request.line.contains("i2") ? Answer{404, R"({"error":{"message":"no"}})"} : Answer{204, ""};
  });
  FakeDaemon image([](const SeenRequest&) { return Answer{}; });
  const auto config = at(image.address(), status.address());
  EXPECT_EQ(run_with(config, {"images", "pin", "i1", "i2"}), 1);
  EXPECT_EQ(run_with(config, {"images", "unpin", "i1"}), 0) << err();
  EXPECT_THAT(status.lines(),
              ElementsAre("PUT /v1/images/i1/pin", "PUT /v1/images/i2/pin", "DELETE /v1/images/i1/pin"));
}

TEST_F(Images, PrefetchWaitsForAllThatIsQueuedAndTellsWhatFailed) {
  std::atomic<int> looks = 0;
  FakeDaemon image([&](const SeenRequest&) -> Answer {
    // i1 comes; i2 is given up; i3 stays queued while nothing is downloaded.
    const int look = looks++;
    if (look < 2) return {200, R"({"cached_images":[],"queued_images":["i1","i2","i3"]})"};
    return {200, R"({"cached_images":[{"image_id":"i1"}],"queued_images":["i3"]})"};
  });
  FakeDaemon status([&](const SeenRequest&) -> Answer {
    if (looks < 3) return {200, R"({"fills":[{"image_id":"i1","done_bytes":1,"total_bytes":4}]})"};
    return {200, R"({"fills":[]})"};
  });
  terminal_ = true;
  EXPECT_EQ(run_with(at(image.address(), status.address()), {"images", "prefetch"}), 1);
  EXPECT_EQ(out(), "image i1: cached\n");
  EXPECT_THAT(err(), HasSubstr("image i1: 1 B of 4 B, 25 %"));
  EXPECT_THAT(err(), HasSubstr("image i2: is neither cached nor queued any more"));
  EXPECT_THAT(err(), HasSubstr("image i3: is queued, but the daemon does not download it now"));
}

TEST_F(Images, PrefetchOfGivenImagesQueuesThemFirst) {
  FakeDaemon image([&](const SeenRequest& request) -> Answer {
    if (request.line == "PUT /v2/cache/i2") return {404, ""};
    if (request.line.starts_with("PUT")) return {202, ""};
    return {200, R"({"cached_images":[{"image_id":"i1"}],"queued_images":[]})"};
  });
  EXPECT_EQ(run_with(at(image.address()), {"images", "prefetch", "i1", "i2"}), 1);
  EXPECT_EQ(out(), "image i1: cached\n");
  EXPECT_THAT(err(), HasSubstr("image i2: HTTP 404"));
}

TEST_F(Images, ProgressIsShownOnATerminalAlone) {
  report_ = ImagesReport{.outcomes = {{"i1", std::nullopt}}};
  const auto config = nobody();
  EXPECT_EQ(run_with(config, {"images", "prefetch"}), 0);
  EXPECT_EQ(err(), "");
  terminal_ = true;
  EXPECT_EQ(run_with(config, {"images", "prefetch"}), 0);
  EXPECT_THAT(err(), HasSubstr("image i1: 512 B of 1.0 KiB, 50 %"));
}

TEST_F(Images, ATokenIsGotFromKeystoneWhereNoneIsGiven) {
  std::vector<std::optional<KeystoneLogin>> logins;
  login_ = [&](const config::Config*, const std::optional<KeystoneLogin>& login) -> Result<LoggedIn> {
    logins.push_back(login);
    return LoggedIn{.token = login ? "from-keystone" : "of-the-service"};
  };
  FakeDaemon daemon([](const SeenRequest&) { return Answer{204, ""}; });
  const auto config = at(daemon.address());
  const auto token_sent = [&] { return daemon.seen().back().headers; };

  EXPECT_EQ(run_with(config, {"images", "delete", "i1", "i2"}), 0) << err();
  EXPECT_THAT(token_sent(), HasSubstr("X-Auth-Token: of-the-service\r\n"));
  EXPECT_EQ(logins.size(), 1U) << "one token for one command";
  environment_ = {{"OS_AUTH_URL", "http://k"}, {"OS_USERNAME", "u"}, {"OS_PASSWORD", "p"}, {"OS_CACERT", "/ca"}};
  EXPECT_EQ(run_with(config, {"images", "delete", "i1"}), 0) << err();
  EXPECT_THAT(token_sent(), HasSubstr("X-Auth-Token: from-keystone\r\n"));
  ASSERT_TRUE(logins.back().has_value());
  EXPECT_EQ(logins.back()->username, "u");
  EXPECT_EQ(logins.back()->password, "p");
  EXPECT_EQ(logins.back()->ca_file, "/ca");
  environment_["OS_TOKEN"] = "mine";
  EXPECT_EQ(run_with(config, {"images", "delete", "i1"}), 0) << err();
  EXPECT_THAT(token_sent(), HasSubstr("X-Auth-Token: mine\r\n"));
  EXPECT_EQ(logins.size(), 2U);
}

TEST_F(Images, WhereKeystoneRefusesTheCommandFailsWithItsReason) {
  login_ = [](const config::Config*, const std::optional<KeystoneLogin>&) -> Result<LoggedIn> {
    return fail(Errc::unauthenticated, "http://k: the password is not accepted");
  };
  FakeDaemon daemon([](const SeenRequest&) { return Answer{204, ""}; });
  EXPECT_EQ(run_with(at(daemon.address()), {"images", "prune"}), 1);
  EXPECT_THAT(err(), HasSubstr("the password is not accepted"));
  EXPECT_THAT(daemon.lines(), IsEmpty());
}

TEST_F(Images, WithTlsTheAddressIsHttpsAndAWrongPeerIsTold) {
  FakeDaemon daemon([](const SeenRequest&) { return Answer{204, ""}; });  // speaks no TLS
  const auto pem = write("cert.pem", "x");
  const auto config = at(daemon.address(), "127.0.0.1:1", "tls_cert_file = " + pem + "\ntls_key_file = " + pem + "\n");
  EXPECT_EQ(run_with(config, {"images", "prune"}), 1);
  EXPECT_THAT(err(), HasSubstr("no TLS with the daemon at https://127.0.0.1:"));
  EXPECT_THAT(err(), HasSubstr("--ca-file"));
  EXPECT_THAT(asked_, IsEmpty());
}

}  // namespace
}  // namespace imagecache::cli
