// The image files that storage clusters import from: what librbd is told, which takes each status but 2xx for an I/O
// error, 404 for a hole, and the end of a connection for a reason to ask again.
#include "api/import_file.hpp"

#include <gtest/gtest.h>

#include <latch>
#include <memory>

#include "unit/api/asked.hpp"
#include "unit/image_cache/rig.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::api {
namespace {

using test::Asked;
using volume_cache::import_path;

class ImportFile : public ::testing::Test {
 protected:
  ImportFile() {
    const auto id = rig.origin.add({.content = imagecache::test::Content::generated(10'000, 1)});
    auto reader = rig.open(id);
    EXPECT_TRUE(reader && rig.read(*reader));
    rig.settle();
    name = rig.io->run(rig.cache->hold("owner", id, reader->fd())).value_or("");
  }
  Asked ask(const std::string& method, const std::string& file, std::vector<http::Header> headers = {}) {
    Asked asked(method, std::move(headers), std::string(import_path) + file);
    EXPECT_TRUE(is_import_request(asked));
    rig.io->run([](Asked& of, ImportFile& self) -> base::Task<bool> {
      co_await serve_import(of, *self.rig.cache, self.pool);
      co_return true;
    }(asked, *this));
    return asked;
  }

  image_cache::Rig rig;
  base::BlockingPool pool{{.name = "work", .threads = 1, .queue_limit = 1}};
  std::string name;
};

TEST_F(ImportFile, APartIsWhatWasAskedForAndHeadTellsTheSize) {
  const Asked part = ask("GET", name, {{"Range", "bytes=1000-1999"}});
  EXPECT_EQ(part.answer->status, 206U);
  EXPECT_EQ(part.sent_offset, 1000U);
  EXPECT_EQ(part.sent_bytes, 1000U);
  const Asked all = ask("HEAD", name);
  EXPECT_EQ(all.answer->status, 200U);
  EXPECT_EQ(all.sent_bytes, 10'000U);
  EXPECT_EQ(ask("GET", name, {{"Range", "bytes=10000-"}}).answer->status, 416U);
}

TEST_F(ImportFile, WhatIsNotThereIsGoneAndNeverAHole) {
  for (const std::string& other : {name + "0", std::string(), std::string("..")}) {
    EXPECT_EQ(ask("GET", other).answer->status, 410U) << other;
  }
  EXPECT_EQ(ask("PUT", name).answer->status, 405U);
}

TEST_F(ImportFile, AFileThatWasWrittenToIsAnErrorThatStays) {
  image_cache::write_file(rig.file(".cinder-image-cache/held") / name, "else");
  EXPECT_EQ(ask("GET", name).answer->status, 503U);
}

TEST_F(ImportFile, WithTooMuchWorkWaitingTheConnectionEndsUnansweredSoThatItIsAskedAgain) {
  const auto begun = std::make_shared<std::latch>(1), gate = std::make_shared<std::latch>(1);  // shared with the thread
  ASSERT_TRUE(pool.post([begun, gate] {
    begun->count_down();
    gate->wait();
  }));
  begun->wait();
  ASSERT_TRUE(pool.post([] {}));
  const Asked refused = ask("GET", name);
  gate->count_down();
  EXPECT_TRUE(refused.dropped);
  EXPECT_FALSE(refused.answer);
}

}  // namespace
}  // namespace imagecache::api
