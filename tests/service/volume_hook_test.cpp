// The driver hook through the whole daemon: one volume per id, and none after it was taken back.
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

TEST(VolumeHook, TheSameIdTwiceAtOnceIsOneVolume) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({raw.size() / 2, gate}); });
  const std::string id = base::new_uuid();
  const auto before = daemon.counters().http_requests.load();
  std::array<HttpAnswer, 2> answers;
  {
    std::vector<std::jthread> callers;
    for (auto& answer : answers) callers.emplace_back([&] { answer = hook_create(daemon, id, image); });
    ASSERT_TRUE(gate->wait_arrived());
    while (daemon.counters().http_requests < before + 2) std::this_thread::yield();
    EXPECT_EQ(hook_create(daemon, id, image, 2).status, 409) << "the same id and another size";
    gate->open();
  }
  for (const auto& answer : answers) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_NE(answer.body.find("\"existed\":false"), std::string::npos) << answer.body;
  }
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  EXPECT_EQ(daemon.counters().volumes_created, 1U);
  EXPECT_EQ(daemon.counters().volume_builds_started, 1U);
  EXPECT_EQ(daemon.volume_files(), 2U);
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 0U) << "Cinder has counted it";
  const auto again = hook_create(daemon, id, image);
  EXPECT_EQ(again.status, 200) << "and once more, after the end";
  EXPECT_NE(again.body.find("\"existed\":true"), std::string::npos) << again.body;
  EXPECT_EQ(daemon.counters().volumes_created, 1U);
}

TEST(VolumeHook, AfterACancelInTheMiddleNothingAppears) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({raw.size() / 2, gate}); });
  const std::string id = base::new_uuid();
  HttpAnswer answer;
  {
    std::jthread caller([&] { answer = hook_create(daemon, id, image); });
    ASSERT_TRUE(gate->wait_arrived());
    EXPECT_EQ(hook(daemon, "DELETE", id).status, 204);
    // Its promise is about the moment of the answer, not about later.
    EXPECT_EQ(daemon.volume_files(), 0U);
    EXPECT_EQ(hook(daemon, "GET", id).status, 404);
  }
  EXPECT_EQ(answer.status, 409) << answer.body;
  EXPECT_EQ(parsed(answer)["error"]["code"], "cancelled");
  EXPECT_EQ(parsed(answer)["error"]["fallback"], true);
  gate->open();
  EXPECT_EQ(parsed(hook_create(daemon, id, image))["error"]["code"], "cancelled");
  // Another volume of the image is none of the cancel's business.
  const std::string other = base::new_uuid();
  EXPECT_EQ(hook_create(daemon, other, image).status, 200);
  EXPECT_TRUE(holds(daemon.volume_file(other), raw, 1));
  daemon.restart();  // waits for all that is in flight; and the fence holds over it
  EXPECT_EQ(parsed(hook_create(daemon, id, image))["error"]["code"], "cancelled");
  EXPECT_FALSE(std::filesystem::exists(daemon.volume_file(id)));
  EXPECT_EQ(hook(daemon, "DELETE", id).status, 204) << "once more is no error";
}

TEST(VolumeHook, WhatIsForgottenIsLeftToCinder) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  const std::string id = base::new_uuid();
  ASSERT_EQ(hook_create(daemon, id, image).status, 200);
  EXPECT_EQ(hook(daemon, "DELETE", id + "?forget=").status, 400);
  EXPECT_EQ(hook(daemon, "GET", id).status, 200);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(hook(daemon, "DELETE", id + "?forget=volume-" + id).status, 204);
    EXPECT_EQ(hook(daemon, "GET", id).status, 404);
  }
  EXPECT_EQ(hook(daemon, "DELETE", id).status, 204) << "nor does it know the name any more";
  // What may still be on the way of its PUT comes too late.
  EXPECT_EQ(parsed(hook_create(daemon, id, image))["error"]["code"], "cancelled");
  daemon.restart();
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  // Of one that Cinder has stored elsewhere nothing shall be left.
  const std::string moved = base::new_uuid();
  ASSERT_EQ(hook_create(daemon, moved, image).status, 200);
  EXPECT_EQ(hook(daemon, "DELETE", moved + "?forget=volume-" + base::new_uuid()).status, 204);
  EXPECT_FALSE(std::filesystem::exists(daemon.volume_file(moved)));
}

TEST(VolumeHook, ADeadlineThatPassesTakesTheVolumeBack) {
  Daemon daemon;
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({raw.size() / 2, gate}); });
  const std::string id = base::new_uuid();
  const auto late =
      hook(daemon, "PUT", id,
           {{"backend", "file1"}, {"name", "volume-" + id}, {"size_gb", 1}, {"image_id", image}, {"deadline_ms", 300}});
  EXPECT_EQ(late.status, 504) << late.body;
  EXPECT_EQ(parsed(late)["error"]["fallback"], true);
  gate->open();
  daemon.restart();
  EXPECT_FALSE(std::filesystem::exists(daemon.volume_file(id)));
  EXPECT_EQ(parsed(hook_create(daemon, id, image))["error"]["code"], "cancelled");
}

TEST(VolumeHook, AnImageAtFaultIsNoReasonToFallBackAndTheRestIs) {
  Daemon daemon;
  const auto broken = daemon.origin.add({.content = Content::generated(1 << 20, 1), .disk_format = "qcow2"});
  const auto refused = hook_create(daemon, base::new_uuid(), broken);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(parsed(refused)["error"]["code"], "unacceptable_image");
  EXPECT_EQ(parsed(refused)["error"]["fallback"], false);
  daemon.origin.go_down();
  const auto away = hook_create(daemon, base::new_uuid(), broken);
  EXPECT_EQ(away.status, 503);
  EXPECT_EQ(parsed(away)["error"]["fallback"], true);
  EXPECT_EQ(daemon.volume_files(), 0U);
}

TEST(VolumeHook, AnIdWhoseCreateFailedMayBeTriedAgain) {
  Daemon daemon({.service = "fill_attempts = 1\n"});
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  daemon.origin.script(image, [](ImageScript& s) {
    s.file.wrong_bytes = {1 << 20};
    s.file.wrong_bytes_times = 1;
  });
  const std::string id = base::new_uuid();
  const auto failed = hook_create(daemon, id, image);
  EXPECT_EQ(failed.status, 500) << failed.body;
  EXPECT_EQ(daemon.volume_files(), 0U);
  EXPECT_EQ(hook_create(daemon, id, image).status, 200);
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
}

}  // namespace
}  // namespace imagecache::test
