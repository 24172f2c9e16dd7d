#include "base/child.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "base/fd.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::base {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class RunChild : public testing::Test {
 protected:
  static ChildSpec shell(const std::string& script) {
    return {.program = "sh", .arguments = {"-c", script}, .timeout = 60s};
  }
  std::string fifo(const std::string& name) {
    const std::string path = directory_ / name;
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  /// Runs `before`, and a stop comes once that is done, in the middle of `then`.
  Result<ChildResult> stopped_once_ready(const std::string& before, const std::string& then, ChildEnd end,
                                         std::chrono::milliseconds grace) {
    const std::string ready = fifo("ready" + std::to_string(fifos_++));
    auto spec = shell(before + "\necho on >" + ready + "\n" + then);
    spec.end = end;
    spec.ask_grace = grace;
    std::stop_source stop;
    const std::jthread stopper([&] {
      std::string line;
      std::ifstream(ready) >> line;
      stop.request_stop();
    });
    return run_child(spec, stop.get_token());
  }

  test::TempDir directory_;
  int fifos_ = 0;
};

TEST_F(RunChild, KeepsOutputAndErrorsApartAndTellsHowItEnded) {
  const auto child = run_child(shell("echo out; echo err >&2; exit 7"), {});
  ASSERT_TRUE(child) << child.error().message;
  EXPECT_EQ(child->output, "out\n");
  EXPECT_EQ(child->errors, "err\n");
  EXPECT_EQ(child->exit_status, 7);
  EXPECT_EQ(run_child(shell("kill -9 $$"), {})->signal, 9);
}

TEST_F(RunChild, OfWhatIsSaidTheBeginningIsKeptUpToTheLimit) {
  auto spec = shell("head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2");
  spec.output_limit_bytes = 200'000;
  const auto child = run_child(spec, {});
  ASSERT_TRUE(child) << child.error().message;
  EXPECT_EQ(child->output, std::string(200'000, 'x'));
  EXPECT_EQ(child->errors, std::string(200'000, 'y'));
}

TEST_F(RunChild, AProgramThatIsNotThereIsNotFound) {
  for (const std::string program : {"no-such-program", "/no/such/program"}) {
    const auto child = run_child({.program = program, .timeout = 60s}, {});
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::not_found);
    EXPECT_THAT(child.error().message, HasSubstr(program));
  }
}

TEST_F(RunChild, WhatTakesTooLongIsEnded) {
  for (const ChildEnd end : {ChildEnd::kill, ChildEnd::ask}) {
    auto spec = shell("exec sleep 1000");
    spec.end = end;
    spec.timeout = 50ms;
    const auto child = run_child(spec, {});
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::timeout);
    EXPECT_THAT(child.error().message, HasSubstr("took too long"));
  }
}

TEST_F(RunChild, OneThatMustTalkIsEndedWhenItFallsSilentAndNotBefore) {
  auto talks = shell("for i in 1 2 3 4 5 6; do echo $i >&2; sleep 0.2; done");
  talks.silence_timeout = 1s;
  const auto done = run_child(talks, {});
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->exit_status, 0);
  auto falls_silent = shell("echo 1 >&2; exec sleep 60");
  falls_silent.silence_timeout = 100ms;
  const auto ended = run_child(falls_silent, {});
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, Errc::timeout);
  EXPECT_THAT(ended.error().message, HasSubstr("it did not get on"));
}

TEST_F(RunChild, AStopEndsItAsItsDeadlineWould) {
  for (const ChildEnd end : {ChildEnd::kill, ChildEnd::ask}) {
    const auto child = stopped_once_ready("", "exec sleep 1000", end, 60s);
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code, Errc::cancelled);
  }
}

TEST_F(RunChild, WhatPutsOffItsEndIsWaitedForWhenItIsAskedToEnd) {
  const std::string end = directory_ / "end";
  const auto child = stopped_once_ready("trap 'sleep 0.2; echo whole >" + end + "; exit 0' TERM",
                                        "while :; do sleep 0.02; done", ChildEnd::ask, 60s);
  ASSERT_FALSE(child);
  EXPECT_THAT(child.error().message, HasSubstr("was ended"));
  EXPECT_EQ(*read_small_file(end), "whole\n");
}

TEST_F(RunChild, WhatDoesNotEndWhenItIsAskedIsLeftToFinishByItself) {
  const std::string go = fifo("go");
  const std::string done = fifo("done");
  const auto child =
      stopped_once_ready("trap '' TERM", "read line <" + go + "; echo whole >" + done, ChildEnd::ask, 50ms);
  ASSERT_FALSE(child);
  EXPECT_THAT(child.error().message, HasSubstr("left to itself"));
  std::ofstream(go) << "on\n";
  std::string line;
  std::ifstream(done) >> line;
  EXPECT_EQ(line, "whole");
}

TEST_F(RunChild, OnlyWhoIsAllowedToMayGainPrivileges) {
  auto spec = shell("grep NoNewPrivs /proc/self/status");
  EXPECT_THAT(run_child(spec, {})->output, HasSubstr("1"));
  spec.may_gain_privileges = true;
  const auto here = read_small_file("/proc/self/status");
  const bool barred = here->contains("NoNewPrivs:\t1");
  EXPECT_THAT(run_child(spec, {})->output, HasSubstr(barred ? "1" : "0"));
}

}  // namespace
}  // namespace imagecache::base
