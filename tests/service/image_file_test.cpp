// GET of an image's file, row by row as the behaviour of Glance's cache was recorded: what a client sees, and what is
// kept afterwards.

#include "service/images.hpp"

namespace imagecache::test {
namespace {

TEST(ImageFile, AMissGivesTheWholeBodyAndKeepsIt) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 21);
  const auto id = daemon.origin.add({.content = content});
  const auto miss = daemon.image("GET", file_path(id));
  EXPECT_EQ(miss.body, content.bytes());
  EXPECT_EQ(miss.header("content-md5"), content.md5());
  EXPECT_EQ(miss.header("content-length"), std::to_string(2 * mib));
  EXPECT_EQ(miss.header("cache-status"), "cinder-image-cache; fwd=miss; stored");
  EXPECT_EQ(miss.header("age"), "");
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  EXPECT_TRUE(std::filesystem::exists(daemon.cache_dir() / id));
  // Counted when all of it has gone, which the client may see first.
  while (daemon.counters().image_miss_bytes == 0) std::this_thread::yield();
  EXPECT_EQ(daemon.counters().image_miss_bytes, 2 * mib);
}

TEST(ImageFile, AHitIsCountedWhenItsLastByteWasSent) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 22);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  EXPECT_EQ(daemon.service->images().list().at(0).hits, 0U);
  const auto hit = daemon.image("GET", file_path(id));
  EXPECT_EQ(hit.body, content.bytes());
  EXPECT_EQ(hit.header("age"), "0");
  EXPECT_EQ(hit.header("etag"), '"' + content.sha512() + '"');
  EXPECT_EQ(hit.header("accept-ranges"), "bytes");
  EXPECT_EQ(daemon.origin.downloads(id), 1U);
  while (daemon.service->images().list().at(0).hits != 1) std::this_thread::yield();
  EXPECT_EQ(daemon.counters().image_hit_bytes, 2 * mib);
}

TEST(ImageFile, AnImageWithoutDataIs204AndNothingIsKept) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::of(""), .status = "queued"});
  EXPECT_EQ(daemon.image("GET", file_path(id)).status, 204);
  EXPECT_EQ(daemon.image("HEAD", file_path(id)).status, 204);
  EXPECT_FALSE(daemon.service->images().is_cached(id));
}

TEST(ImageFile, AnUnknownImageIs404InTheOriginsWords) {
  Daemon daemon;
  const std::string id = "00000000-0000-0000-0000-000000000000";
  const auto answer = daemon.image("GET", file_path(id));
  EXPECT_EQ(answer.status, 404);
  EXPECT_NE(answer.body.find("No image found with ID " + id), std::string::npos) << answer.body;
  EXPECT_EQ(daemon.image("GET", "/v2/images/cache.db/file").status, 404);
}

TEST(ImageFile, ADeactivatedImageIs403CachedOrNot) {
  Daemon daemon;
  const auto cached = daemon.origin.add({.content = Content::generated(mib, 23)});
  const auto other = daemon.origin.add({.content = Content::generated(mib, 24)});
  warm(daemon, cached);
  for (const auto& id : {cached, other}) {
    EXPECT_EQ(daemon.image("POST", describe_path(id) + "/actions/deactivate").status, 204);
    const auto answer = daemon.image("GET", file_path(id));
    EXPECT_EQ(answer.status, 403);
    EXPECT_NE(answer.body.find("has been deactivated"), std::string::npos) << answer.body;
    EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=0-9"}).status, 403);
  }
  EXPECT_EQ(daemon.image("POST", describe_path(cached) + "/actions/reactivate").status, 204);
  EXPECT_EQ(daemon.image("GET", file_path(cached)).header("cache-status"), "cinder-image-cache; hit");
}

TEST(ImageFile, WhatAnAdminHasOfADeactivatedImageComesFromTheOriginAndIsNotKept) {
  Daemon daemon;
  const auto content = Content::generated(mib, 25);
  // The origin says that it is deactivated, and sends it to this caller all the same.
  const auto id = daemon.origin.add({.content = content, .json = {{"status", "\"deactivated\""}}});
  const auto answer = daemon.image("GET", file_path(id));
  EXPECT_EQ(answer.body, content.bytes());
  EXPECT_EQ(answer.header("cache-status"), "cinder-image-cache; fwd=bypass; detail=deactivated");
  EXPECT_FALSE(daemon.service->images().is_cached(id));
  // Counted when all of it has gone, which the client may see first.
  while (daemon.counters().image_pass_bytes == 0) std::this_thread::yield();
  EXPECT_EQ(daemon.counters().image_passes, 1U);
  EXPECT_EQ(daemon.counters().image_pass_bytes, mib);
}

TEST(ImageFile, ADeletedImageIs404ThoughItsFileIsStillHere) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 26)});
  warm(daemon, id);
  daemon.origin.remove(id);
  EXPECT_EQ(daemon.image("GET", file_path(id)).status, 404);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"Range: bytes=0-1"}).status, 404);
  EXPECT_EQ(daemon.image("HEAD", file_path(id)).status, 404);
}

TEST(ImageFile, AnImageWhoseSizeTheOriginDoesNotKnowIsServedWhole) {
  Daemon daemon;
  for (const auto* size : {"null", "0"}) {
    const auto content = Content::generated(2 * mib, 27);
    const auto id = daemon.origin.add({.content = content, .json = {{"size", size}}});
    EXPECT_EQ(daemon.image("GET", file_path(id)).body, content.bytes()) << size;
    while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
    const auto again = daemon.image("GET", file_path(id));
    EXPECT_EQ(again.body, content.bytes()) << size;
    EXPECT_TRUE(again.complete) << size;
    if (!daemon.service->images().is_cached(id)) continue;
    EXPECT_EQ(again.header("content-length"), std::to_string(2 * mib)) << size;
    EXPECT_EQ(daemon.image("HEAD", file_path(id)).header("content-length"), std::to_string(2 * mib)) << size;
  }
}

TEST(ImageFile, AnImageOfNoBytesIsAnEmptyBody) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::of("")});
  for (int i = 0; i < 2; ++i) {
    const auto answer = daemon.image("GET", file_path(id));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "");
    EXPECT_TRUE(answer.complete);
  }
}

TEST(ImageFile, AnImageWithoutHashesHasNoTagAndNoMd5) {
  Daemon daemon;
  const auto content = Content::generated(mib, 28);
  const auto id = daemon.origin.add(
      {.content = content, .json = {{"checksum", "null"}, {"os_hash_algo", "null"}, {"os_hash_value", "null"}}});
  for (int i = 0; i < 2; ++i) {
    const auto answer = daemon.image("GET", file_path(id), {"If-None-Match: \"x\""});
    EXPECT_EQ(answer.body, content.bytes());
    EXPECT_EQ(answer.header("content-md5"), "");
    EXPECT_EQ(answer.header("etag"), "");
    while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  }
}

TEST(ImageFile, AFileThatWasCorruptedInPlaceIsFetchedAgain) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 29);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  std::fstream(daemon.cache_dir() / id, std::ios::in | std::ios::out | std::ios::binary).seekp(1000) << "ZZZZ";
  EXPECT_EQ(daemon.image("GET", file_path(id)).body, content.bytes());
  EXPECT_EQ(daemon.origin.downloads(id), 2U);
}

TEST(ImageFile, AFileThatWasCutShortIsFetchedAgain) {
  Daemon daemon;
  const auto content = Content::generated(2 * mib, 30);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  std::filesystem::resize_file(daemon.cache_dir() / id, 1000);
  const auto part = daemon.image("GET", file_path(id), {"Range: bytes=5000-5999"});
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.body, content.bytes(5000, 1000));
  EXPECT_EQ(daemon.image("GET", file_path(id)).body, content.bytes());
}

TEST(ImageFile, AnEntryDeletedWhileAHitIsSentIsSentToItsEnd) {
  Daemon daemon;
  const auto content = Content::generated(24 * mib, 31);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  HttpClient client(daemon.service->image_api_port());
  client.send("GET " + file_path(id) + " HTTP/1.1\r\nHost: test\r\n\r\n");
  auto answer = client.read_head();
  std::string body = client.read_body(answer, 4096);
  EXPECT_EQ(daemon.image("DELETE", "/v2/cache/" + id).status, 204);
  EXPECT_FALSE(std::filesystem::exists(daemon.cache_dir() / id));
  body += client.read_body(answer);
  EXPECT_EQ(body, content.bytes());
  EXPECT_FALSE(daemon.service->images().is_cached(id));
}

TEST(ImageFile, ADeleteThatTheOriginRefusesLeavesTheFile) {
  Daemon daemon;
  const auto id = daemon.origin.add({.content = Content::generated(mib, 32)});
  warm(daemon, id);
  daemon.origin.answer("DELETE", describe_path(id), {.status = 403, .body = "protected"});
  EXPECT_EQ(daemon.image("DELETE", describe_path(id)).status, 403);
  EXPECT_TRUE(daemon.service->images().is_cached(id));
}

TEST(ImageFile, AnyVersionInThePathOrInAcceptFindsTheFile) {
  Daemon daemon;
  const auto content = Content::generated(mib, 33);
  const auto id = daemon.origin.add({.content = content});
  warm(daemon, id);
  for (const std::string path : {"/v2.3", "/v2.16", "/v2.18", "//v2"}) {
    const auto answer = daemon.image("GET", path + "/images/" + id + "/file?x=y");
    EXPECT_EQ(answer.header("cache-status"), "cinder-image-cache; hit") << path;
  }
  const auto accept = daemon.image("GET", "/images/" + id + "/file", {"Accept: application/vnd.openstack.images-v2.7"});
  EXPECT_EQ(accept.body, content.bytes());
  EXPECT_EQ(accept.header("cache-status"), "cinder-image-cache; hit");
}

TEST(ImageFile, HeadIsTheHeadOfGet) {
  Daemon daemon;
  const auto content = Content::generated(mib, 34);
  const auto id = daemon.origin.add({.content = content});
  const auto before = daemon.image("HEAD", file_path(id));
  EXPECT_EQ(before.status, 200);
  EXPECT_EQ(before.header("content-length"), std::to_string(mib));
  EXPECT_EQ(before.header("cache-status"), "cinder-image-cache; fwd=uri-miss");
  EXPECT_EQ(daemon.origin.downloads(id), 0U);
  warm(daemon, id);
  HttpClient client(daemon.service->image_api_port());
  const auto head = client.request("HEAD", file_path(id));
  EXPECT_EQ(head.header("cache-status"), "cinder-image-cache; hit");
  EXPECT_EQ(head.header("etag"), '"' + content.sha512() + '"');
  EXPECT_EQ(head.body, "");
  // The connection goes on behind it.
  EXPECT_EQ(client.request("GET", file_path(id)).body, content.bytes());
  daemon.origin.answer_token("stranger", 404);
  EXPECT_EQ(daemon.image("HEAD", file_path(id), {"X-Auth-Token: stranger"}).status, 404);
}

TEST(ImageFile, WhoHasTheImageIsNotSentItAgain) {
  Daemon daemon;
  const auto content = Content::generated(mib, 35);
  const auto id = daemon.origin.add({.content = content});
  const std::string tag = '"' + content.sha512() + '"';
  for (int cached = 0; cached < 2; ++cached) {
    const auto same = daemon.image("GET", file_path(id), {"If-None-Match: \"x\", W/" + tag});
    EXPECT_EQ(same.status, 304);
    EXPECT_EQ(same.header("etag"), tag);
    EXPECT_EQ(same.body, "");
    EXPECT_EQ(daemon.image("HEAD", file_path(id), {"If-None-Match: " + tag}).status, 304);
    EXPECT_EQ(daemon.image("GET", file_path(id), {"If-Match: \"x\""}).status, 412);
    EXPECT_EQ(daemon.origin.downloads(id), static_cast<std::size_t>(cached));
    if (cached == 0) warm(daemon, id);
  }
  EXPECT_EQ(daemon.image("GET", file_path(id), {"If-Match: " + tag}).body, content.bytes());
  EXPECT_EQ(daemon.image("GET", file_path(id), {"If-None-Match: \"x\""}).body, content.bytes());
  daemon.origin.answer_token("stranger", 404);
  EXPECT_EQ(daemon.image("GET", file_path(id), {"If-None-Match: " + tag, "X-Auth-Token: stranger"}).status, 404);
}

}  // namespace
}  // namespace imagecache::test
