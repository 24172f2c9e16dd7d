// The verbs against a daemon that answers as the test says.
#include <gmock/gmock.h>

#include <atomic>

#include "cli_fixture.hpp"
#include "fake_daemon.hpp"

namespace imagecache::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Remote : public CliTest {
 protected:
  /// All three APIs at one daemon's address need --url; a configuration cannot have that.
  int run_at(const FakeDaemon& daemon, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--url", daemon.address().starts_with("unix:") ? daemon.address()
                                                                                      : "http://" + daemon.address()});
    return run(arguments);
  }
};

FakeDaemon::Script always(int status, std::string body = "") {
  return [=](const SeenRequest&) { return Answer{status, body}; };
}

TEST_F(Remote, ImagesAreListedWithTheQueue) {
  FakeDaemon daemon(
      always(200, R"({"cached_images":[{"image_id":"i1","hits":2,"size":1048576,"last_accessed":1700000000.5,
    "last_modified":1}],"queued_images":["i2"]})"));
  EXPECT_EQ(run_at(daemon, {"images", "list"}), 0) << err();
  EXPECT_EQ(out(),
            "+-------+--------+---------+------+---------------------+\n"
            "| Image | State  | Size    | Hits | Last used           |\n"
            "+-------+--------+---------+------+---------------------+\n"
            "| i1    | cached | 1.0 MiB |    2 | 2023-11-14T22:13:20 |\n"
            "| i2    | queued |         |      |                     |\n"
            "+-------+--------+---------+------+---------------------+\n");
  EXPECT_EQ(run_at(daemon, {"images", "list", "-f", "json"}), 0);
  EXPECT_EQ(json().at(0).at("size"), 1048576);
  EXPECT_THAT(daemon.lines(), ElementsAre("GET /v2/cache", "GET /v2/cache"));
  EXPECT_THAT(daemon.seen()[0].headers, HasSubstr("X-Auth-Token: admin:admin\r\n"));
}

TEST_F(Remote, WhoAsksComesFromOptionsThenTheEnvironment) {
  FakeDaemon daemon(always(200, R"({"volumes":[]})"));
  environment_["OS_PROJECT_ID"] = "p1";
  EXPECT_EQ(run_at(daemon, {"volumes", "list"}), 0) << err();
  EXPECT_EQ(run_at(daemon, {"volumes", "list", "--os-project-id", "p 2", "--os-token", "t0k3n"}), 0) << err();
  ASSERT_EQ(daemon.seen().size(), 2U);
  EXPECT_EQ(daemon.seen()[0].line, "GET /v3/p1/volumes/detail?limit=1000");
  EXPECT_THAT(daemon.seen()[0].headers, HasSubstr("X-Auth-Token: admin:p1\r\n"));
  EXPECT_EQ(daemon.seen()[1].line, "GET /v3/p%202/volumes/detail?limit=1000");
  EXPECT_THAT(daemon.seen()[1].headers, HasSubstr("X-Auth-Token: t0k3n\r\n"));
}

TEST_F(Remote, TheAddressComesFromTheConfigurationAndMayBeAUnixSocket) {
  FakeDaemon status(always(200, R"({"version":"1"})"), (directory_ / "s.sock").native());
  FakeDaemon image(always(200, R"({"cached_images":[],"queued_images":[]})"));
  const auto file = write("x.conf", "[image_cache_service]\nstatus_bind = " + status.address() +
                                        "\nimage_api_bind = " + image.address() + "\n");
  EXPECT_EQ(run({"status", "--config-file", file}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("| version | 1     |"));
  environment_["CINDER_IMAGE_CACHE_CONFIG"] = file;
  EXPECT_EQ(run({"images", "list"}), 0) << err();
  EXPECT_THAT(status.lines(), ElementsAre("GET /v1/status", "GET /v1/images?limit=1000"));
  EXPECT_THAT(image.lines(), ElementsAre("GET /v2/cache"));
}

TEST_F(Remote, NobodyThereSaysTheAddressAndHowToStart) {
  FakeDaemon daemon(always(200));
  daemon.stop();
  const auto file = write("x.conf", "[image_cache_service]\nstatus_bind = " + daemon.address() + "\n");
  EXPECT_EQ(run({"status", "--config-file", file}), 1);
  EXPECT_THAT(err(), HasSubstr("cannot reach the daemon at http://" + daemon.address() + " (status_bind)"));
  EXPECT_THAT(err(), HasSubstr("cinder-image-cache serve --config-file"));
  EXPECT_EQ(run({"status", "--url", "unix:" + (directory_ / "none.sock").native()}), 1);
  EXPECT_THAT(err(), HasSubstr("cannot reach the daemon at unix:/"));
  EXPECT_EQ(run({"status", "--url", "ftp://x"}), 1);
  EXPECT_THAT(err(), HasSubstr("must be http://host:port"));
}

TEST_F(Remote, AWrongConfigurationIsToldInsteadOfAGuess) {
  const auto file = write("x.conf", "[image_cache_service]\nstatus_bind = nonsense\n");
  EXPECT_EQ(run({"status", "--config-file", file}), 1);
  EXPECT_THAT(err(), HasSubstr(file + ":2: [image_cache_service] status_bind = nonsense"));
  const auto any_port = write("y.conf", "[image_cache_service]\nstatus_bind = 127.0.0.1:0\n");
  EXPECT_EQ(run({"status", "--config-file", any_port}), 1);
  EXPECT_THAT(err(), HasSubstr("status_bind has port 0"));
}

TEST_F(Remote, ErrorsOfAllThreeApisBecomeOneLine) {
  FakeDaemon glance(always(404, "404 Not Found\n\nImage i9 not found.\n\n   "));
  EXPECT_EQ(run_at(glance, {"images", "cache", "i9"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: image i9: Image i9 not found. (HTTP 404)\n");
  FakeDaemon cinder(
      always(413, R"({"overLimit":{"code":413,"message":"VolumeLimitExceeded: no more","retryAfter":"0"}})"));
  EXPECT_EQ(run_at(cinder, {"volumes", "create", "--size", "1", "--image", "i1"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: volume from image i1: VolumeLimitExceeded: no more (HTTP 413)\n");
  FakeDaemon ours(always(409, R"({"error":{"code":"conflict","message":"it is being built"}})"));
  EXPECT_EQ(run_at(ours, {"image-volumes", "evict", "a", "b"}), 1);
  EXPECT_EQ(err(),
            "cinder-image-cache: image-volume a: it is being built (HTTP 409)\n"
            "cinder-image-cache: image-volume b: it is being built (HTTP 409)\n");
  FakeDaemon hostile(always(500, "<html><body>\x1b[2J<b>boom</b></body></html>"));
  EXPECT_EQ(run_at(hostile, {"status"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: ?[2Jboom (HTTP 500)\n");
  FakeDaemon silent(always(503));
  EXPECT_EQ(run_at(silent, {"status"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: HTTP 503\n");
}

TEST_F(Remote, CachingAnImageWaitsUntilItIsCachedAndShowsBytes) {
  std::atomic<int> looks = 0;
  FakeDaemon daemon([&](const SeenRequest& request) -> Answer {
    if (request.line == "PUT /v2/cache/i1") return {202};
    if (request.line == "GET /v1/fills")
      return {200, R"({"fills":[{"image_id":"i1","done_bytes":512,"total_bytes":2048}]})"};
    if (++looks < 3) return {200, R"({"cached_images":[],"queued_images":["i1"]})"};
    return {200, R"({"cached_images":[{"image_id":"i1"}],"queued_images":[]})"};
  });
  terminal_ = true;
  EXPECT_EQ(run_at(daemon, {"images", "cache", "i1", "--wait"}), 0) << err();
  EXPECT_EQ(out(), "image i1: cached\n");
  EXPECT_THAT(err(), HasSubstr("image i1: 512 B of 2.0 KiB, 25 %"));
  terminal_ = false;
  looks = 0;
  EXPECT_EQ(run_at(daemon, {"images", "cache", "i1", "--wait"}), 0);
  EXPECT_EQ(err(), "");
}

TEST_F(Remote, AnImageThatVanishesFromTheQueueHasFailed) {
  FakeDaemon daemon([](const SeenRequest& request) -> Answer {
    if (request.line.starts_with("PUT")) return {202};
    if (request.line == "GET /v1/fills") return {200, R"({"fills":[]})"};
    return {200, R"({"cached_images":[],"queued_images":[]})"};
  });
  EXPECT_EQ(run_at(daemon, {"images", "cache", "i1", "--wait"}), 1);
  EXPECT_THAT(err(), HasSubstr("image i1: is neither cached nor queued any more"));
}

TEST_F(Remote, TheOtherImageVerbsAskWhatGlanceWouldUnderstand) {
  FakeDaemon daemon([](const SeenRequest& request) -> Answer {
    if (request.line == "POST /v2/cache/prune")
      return {200, R"({"total_files_pruned":2,"total_bytes_pruned":1048576})"};
    return {request.line.starts_with("DELETE") ? 204 : 200};
  });
  EXPECT_EQ(run_at(daemon, {"images", "delete", "i1", "i2"}), 0) << err();
  EXPECT_EQ(run_at(daemon, {"images", "clear"}), 0);
  EXPECT_EQ(run_at(daemon, {"images", "clear", "--target", "queue"}), 0);
  EXPECT_EQ(run_at(daemon, {"images", "clean"}), 0);
  EXPECT_EQ(run_at(daemon, {"images", "prune"}), 0);
  EXPECT_EQ(out(), "pruned 2 image(s), 1.0 MiB\n");
  EXPECT_THAT(daemon.lines(), ElementsAre("DELETE /v2/cache/i1", "DELETE /v2/cache/i2", "DELETE /v2/cache",
                                          "DELETE /v2/cache", "POST /v2/cache/clean", "POST /v2/cache/prune"));
  EXPECT_THAT(daemon.seen()[2].headers, Not(HasSubstr("clear-target")));
  EXPECT_THAT(daemon.seen()[3].headers, HasSubstr("x-image-cache-clear-target: queue\r\n"));
}

TEST_F(Remote, AVolumeIsCreatedAndWaitedFor) {
  std::atomic<int> looks = 0;
  FakeDaemon daemon([&](const SeenRequest& request) -> Answer {
    if (request.line.starts_with("POST")) return {202, R"({"volume":{"id":"v1","status":"creating","links":[]}})"};
    if (request.line == "GET /v1/jobs/v1")
      return {200, R"({"id":"v1","state":"running","phase":"convert","done_bytes":1,"total_bytes":2})"};
    return {200, ++looks < 2 ? R"({"volume":{"id":"v1","status":"creating"}})"
                             : R"({"volume":{"id":"v1","status":"available","size":5}})"};
  });
  terminal_ = true;
  EXPECT_EQ(run_at(daemon, {"volumes", "create", "--image", "i1", "--size", "5", "--name", "n", "--type", "t", "--wait",
                            "-f", "json"}),
            0)
      << err();
  EXPECT_EQ(json().at("status"), "available");
  EXPECT_THAT(err(), HasSubstr("convert: 1 B of 2 B, 50 %"));
  EXPECT_EQ(nlohmann::json::parse(daemon.seen()[0].body),
            (nlohmann::json{{"volume", {{"size", 5}, {"imageRef", "i1"}, {"name", "n"}, {"volume_type", "t"}}}}));
}

TEST_F(Remote, AVolumeThatEndsInErrorFailsWithItsReason) {
  FakeDaemon daemon([](const SeenRequest& request) -> Answer {
    if (request.line.starts_with("POST")) return {202, R"({"volume":{"id":"v1","status":"creating"}})"};
    if (request.line == "GET /v1/jobs/v1")
      return {200, R"({"state":"failed","error":"image i1: qcow2 names a backing file; refused"})"};
    return {200, R"({"volume":{"id":"v1","status":"error"}})"};
  });
  EXPECT_EQ(run_at(daemon, {"volumes", "create", "--image", "i1", "--size", "5", "--wait"}), 1);
  EXPECT_EQ(err(),
            "cinder-image-cache: volume v1: is in status error: image i1: qcow2 names a backing file; refused\n");
}

TEST_F(Remote, AllPagesOfAListAreFetched) {
  FakeDaemon daemon([](const SeenRequest& request) -> Answer {
    if (request.line.ends_with("marker=v1")) return {200, R"({"volumes":[{"id":"v2","size":1}]})"};
    return {200, R"({"volumes":[{"id":"v1","size":1}],"volumes_links":[{"rel":"next","href":"x"}]})"};
  });
  EXPECT_EQ(run_at(daemon, {"volumes", "list", "-f", "json"}), 0) << err();
  EXPECT_EQ(json().size(), 2U);
}

TEST_F(Remote, AVolumeIsFoundByItsNameIfThatIsClear) {
  constexpr auto id = "3a0f3a0f-0000-4000-8000-000000000001";
  std::string found = std::string(R"({"volumes":[{"id":")") + id + R"("}]})";
  FakeDaemon daemon([&](const SeenRequest& request) -> Answer {
    if (request.line.starts_with("DELETE")) return {202};
    return {200, found};
  });
  EXPECT_EQ(run_at(daemon, {"volumes", "delete", "my disk"}), 0) << err();
  EXPECT_THAT(daemon.lines(), ElementsAre("GET /v3/admin/volumes/detail?name=my%20disk",
                                          std::string("DELETE /v3/admin/volumes/") + id));
  found = R"({"volumes":[{"id":"a"},{"id":"b"}]})";
  EXPECT_EQ(run_at(daemon, {"volumes", "delete", "twice"}), 1);
  EXPECT_THAT(err(), HasSubstr("2 volumes have that name"));
  found = R"({"volumes":[]})";
  EXPECT_EQ(run_at(daemon, {"volumes", "delete", "none"}), 1);
  EXPECT_THAT(err(), HasSubstr("volume none: there is no such volume"));
}

TEST_F(Remote, DeletingWaitsUntilTheVolumeIsGone) {
  constexpr auto id = "3a0f3a0f-0000-4000-8000-000000000001";
  std::atomic<int> looks = 0;
  FakeDaemon daemon([&](const SeenRequest& request) -> Answer {
    if (request.line.starts_with("DELETE")) return {202};
    if (++looks < 3) return {200, R"({"volume":{"status":"deleting"}})"};
    return {404, R"({"itemNotFound":{"code":404,"message":"gone"}})"};
  });
  EXPECT_EQ(run_at(daemon, {"volumes", "delete", id, "--wait"}), 0) << err();
  EXPECT_EQ(looks, 3);
}

TEST_F(Remote, WarmingTakesTheBackendThatKeepsImageVolumesAndWaitsForTheJob) {
  std::atomic<int> looks = 0;
  FakeDaemon daemon([&](const SeenRequest& request) -> Answer {
    if (request.line == "GET /v1/backends")
      return {200, R"({"backends":[{"name":"file1","image_volume_cache_enabled":true},{"name":"plain"}]})"};
    if (request.line == "POST /v1/image-volumes") return {202, R"({"job":"j1"})"};
    if (++looks < 3) return {200, R"({"id":"j1","state":"running","phase":"download","done_bytes":1,"total_bytes":4})"};
    return {200, R"({"id":"j1","state":"done","result":{"image_volume_id":"v1"}})"};
  });
  EXPECT_EQ(run_at(daemon, {"image-volumes", "warm", "i1", "--wait", "-f", "json"}), 0) << err();
  EXPECT_EQ(json().at("result").at("image_volume_id"), "v1");
  EXPECT_EQ(nlohmann::json::parse(daemon.seen()[1].body), (nlohmann::json{{"image", "i1"}, {"backend", "file1"}}));
}

TEST_F(Remote, WarmingOnSeveralBackendsBeginsAllAndSaysWhichFailed) {
  FakeDaemon daemon([](const SeenRequest& request) -> Answer {
    if (request.line == "GET /v1/backends")
      return {200, R"({"backends":[{"name":"a","image_volume_cache_enabled":true},
                                   {"name":"b","image_volume_cache_enabled":true}]})"};
    if (request.line.starts_with("POST"))
      return {202, request.body.find("\"a\"") != std::string::npos ? R"({"job":"ja"})" : R"({"job":"jb"})"};
    if (request.line == "GET /v1/jobs/ja") return {200, R"({"id":"ja","state":"done","result":"v1"})"};
    return {200, R"({"id":"jb","state":"failed","error":"the quota refuses it"})"};
  });
  EXPECT_EQ(run_at(daemon, {"image-volumes", "warm", "--backend", "a", "--backend", "b", "i1", "--wait"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: image i1 on backend b: the quota refuses it\n");
  EXPECT_THAT(out(), HasSubstr("| a       | done   | v1           |"));
  EXPECT_TRUE(daemon.seen()[0].line.starts_with("POST") && daemon.seen()[1].line.starts_with("POST"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "warm", "i1", "-f", "json"}), 0) << err();
  EXPECT_EQ(json(), nlohmann::json::parse(R"([{"job":"ja","backend":"a"},{"job":"jb","backend":"b"}])"));
}

TEST_F(Remote, WarmingWhereNothingIsKeptSaysSo) {
  FakeDaemon daemon(always(200, R"({"backends":[{"name":"a","image_volume_cache_enabled":false}]})"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "warm", "i1"}), 1);
  EXPECT_THAT(err(), HasSubstr("set image_volume_cache_enabled"));
}

TEST_F(Remote, TheReportIsATableAndJsonAndCsv) {
  FakeDaemon daemon(always(200, R"({"image_volumes":[{"id":"v1","image_id":"i1","backend":"file1","state":"ready",
      "import":"copying","requesting_project":"p1","clones":7,"living_clones":5,"size_gb":3,"used_bytes":1073741824,"saved_s":12.5,
      "uses":[{"image_id":"i1","project_id":"p2","clones":7,"saved_s":12.5,"last_used":"2026-01-01T00:00:00.000000"}]}],
      "refusals":[{"backend":"file1","image_id":"i2","kind":"quota","reason":"says \"no\", twice","project_id":"=p",
      "size_gb":9,"count":2,"last_at":"2026-01-02T00:00:00.000000"}],"total":{}})"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report"}), 0) << err();
  EXPECT_THAT(
      out(),
      HasSubstr("| i1    | file1   | p1           | ready | copying |      7 |      5 | 3 GiB | 1.0 GiB | 12.5 s |"));
  EXPECT_THAT(out(), HasSubstr("Not kept:"));
  EXPECT_THAT(out(), HasSubstr("says \"no\", twice"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report", "-f", "csv"}), 0) << err();
  EXPECT_EQ(out(),
            "image_id,backend,requesting_project,state,import,clones,living_clones,size_gb,used_bytes,saved_s\r\n"
            "i1,file1,p1,ready,copying,7,5,3,1073741824,12.5\r\n");
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report", "--refused", "-f", "csv"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("i2,file1,'=p,9,2,2026-01-02T00:00:00.000000,quota,\"says \"\"no\"\", twice\"\r\n"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report", "--by-project", "-f", "json"}), 0) << err();
  EXPECT_EQ(json().at(0).at("project_id"), "p2");
  EXPECT_EQ(json().at(0).at("image_volume"), "v1");
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report", "-f", "json"}), 0) << err();
  EXPECT_EQ(json().at("refusals").at(0).at("count"), 2);
  EXPECT_EQ(run_at(daemon, {"quota", "show", "-f", "csv"}), 2) << "what is no list has no CSV";
}

TEST_F(Remote, WhatABackendCannotSayIsUnknownAndNotNothing) {
  FakeDaemon daemon(always(200, R"({"image_volumes":[{"id":"v1","image_id":"i1","backend":"array1","state":"ready",
      "requesting_project":"p1","clones":7,"living_clones":5,"size_gb":3,"used_bytes":null,"saved_s":12.5,"uses":[]}],
      "refusals":[],"total":{"used_bytes":null,"used_bytes_unknown":1}})"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("| 3 GiB | unknown | 12.5 s |"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report", "-f", "csv"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("i1,array1,p1,ready,,7,5,3,,12.5\r\n"));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "report", "-f", "json"}), 0) << err();
  EXPECT_TRUE(json().at("image_volumes").at(0).at("used_bytes").is_null());
  EXPECT_TRUE(json().at("total").at("used_bytes").is_null());
}

TEST_F(Remote, AFailedWarmSaysWhy) {
  FakeDaemon daemon([](const SeenRequest& request) -> Answer {
    if (request.line.starts_with("POST")) return {202, R"({"job":"j1"})"};
    return {200, R"({"state":"failed","error":"file1: No space left on device"})"};
  });
  EXPECT_EQ(run_at(daemon, {"image-volumes", "warm", "i1", "--backend", "file1", "--wait"}), 1);
  EXPECT_EQ(err(), "cinder-image-cache: image i1 on backend file1: file1: No space left on device\n");
}

TEST_F(Remote, BackendsSayHowTheyCloneAndWhatIsWrong) {
  std::string error = "null";
  FakeDaemon daemon([&](const SeenRequest&) -> Answer {
    return {200, R"({"backends":[{"name":"file1","volume_backend_name":"fast","driver":"file","clone":"full_copy",
      "image_volumes":2,"free_bytes":1073741824,"total_bytes":2147483648,"error":)" +
                     error + "}]}"};
  });
  EXPECT_EQ(run_at(daemon, {"backends", "list"}), 0) << err();
  EXPECT_THAT(out(),
              HasSubstr("| file1 | fast                | file   | full_copy |             2 | 1.0 GiB | 2.0 GiB |"));
  EXPECT_THAT(out(), Not(HasSubstr("Error")));
  error = "\"/srv: Input/output error\"";
  EXPECT_EQ(run_at(daemon, {"backends", "list"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("| /srv: Input/output error |"));
}

TEST_F(Remote, PinAndUnpinAreOppositeCalls) {
  FakeDaemon daemon(always(204));
  EXPECT_EQ(run_at(daemon, {"image-volumes", "pin", "a"}), 0) << err();
  EXPECT_EQ(run_at(daemon, {"image-volumes", "unpin", "a"}), 0) << err();
  EXPECT_THAT(daemon.lines(), ElementsAre("PUT /v1/image-volumes/a/pin", "DELETE /v1/image-volumes/a/pin"));
}

TEST_F(Remote, QuotaIsShownAsATableAndSet) {
  FakeDaemon daemon(always(200, R"({"quota_set":{"id":"p","volumes":{"limit":10,"in_use":2,"reserved":0},
    "gigabytes":{"limit":-1,"in_use":5,"reserved":1}}})"));
  EXPECT_EQ(run_at(daemon, {"quota", "show", "--project", "p"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("| gigabytes | no limit |      5 |        1 |"));
  EXPECT_EQ(run_at(daemon, {"quota", "set", "--project", "p", "volumes=20", "gigabytes=-1"}), 0) << err();
  EXPECT_THAT(daemon.lines(), ElementsAre("GET /v3/admin/os-quota-sets/p?usage=True", "PUT /v3/admin/os-quota-sets/p"));
  EXPECT_EQ(nlohmann::json::parse(daemon.seen()[1].body),
            (nlohmann::json{{"quota_set", {{"volumes", 20}, {"gigabytes", -1}}}}));
  for (const auto* bad : {"volumes", "volumes=", "=1", "volumes=x", "volumes=-2", "volumes=1x"}) {
    EXPECT_EQ(run_at(daemon, {"quota", "set", bad}), 1) << bad;
    EXPECT_THAT(err(), HasSubstr("must be RESOURCE=LIMIT")) << bad;
  }
}

TEST_F(Remote, TheInternalTenantsQuotaIsFoundByTheConfiguration) {
  FakeDaemon daemon(always(200, R"({"quota_set":{}})"));
  const auto file = write("x.conf", "[DEFAULT]\ncinder_internal_tenant_project_id = internal1\n");
  EXPECT_EQ(run_at(daemon, {"quota", "show", "--internal", "--config-file", file}), 0) << err();
  EXPECT_THAT(daemon.lines(), ElementsAre("GET /v3/admin/os-quota-sets/internal1?usage=True"));
  EXPECT_EQ(run_at(daemon, {"quota", "show", "--internal"}), 1);
  EXPECT_THAT(err(), HasSubstr("there is no internal tenant"));
}

}  // namespace
}  // namespace imagecache::cli
