// An ImageCache over a real Glance client and a scripted Glance.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/digest.hpp"
#include "base/io_threads.hpp"
#include "image_cache/image_cache.hpp"
#include "origin/origin.hpp"
#include "support/scripted_origin.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::image_cache {

using test::Content;
using test::Gate;
using test::ImageScript;

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

/// Whom the scripted Glance knows by this token.
inline base::RequestContext caller(std::string token) {
  auto context = base::internal_context();
  context.auth_token = std::move(token);
  return context;
}

/// Until it is so; fails the test after 20 s, which only a failing test meets.
inline void wait_until(const std::function<bool()>& done) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!done() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  EXPECT_TRUE(done());
}

/// What happens at a step of the cache: once, to be set by a test when the cache runs already.
class Steps {
 public:
  void at(const std::string& step, const std::string& image_id, std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_[{step, image_id}] = std::move(work);
  }
  auto hook() {
    return [this](std::string_view step, const std::string& image_id) {
      std::function<void()> work;
      {
        const std::lock_guard lock(mutex_);
        const auto found = work_.find({std::string(step), image_id});
        if (found == work_.end()) return;
        work = std::move(found->second);
        work_.erase(found);
      }
      work();
    };
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::function<void()>> work_;
};

class Rig {
 public:
  /// How a start takes up what is in the directory.
  enum class Load { at_once, in_background };

  explicit Rig(Options change = {}, Load load = Load::at_once) : options_(std::move(change)), load_(load) {
    options_.directory = (directory / "cache").native();
    options_.fill_retry_pause = std::chrono::milliseconds(1);
    start();
  }
  ~Rig() { stop(); }

  void start() {
    origin_client_ = origin::make_glance_origin(
                         {.urls = {origin.url()}, .num_retries = 1, .retry_pause = std::chrono::milliseconds(1)})
                         .value();
    io = std::make_unique<base::IoThreads>(2);
    pool_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "work", .threads = 4});
    fills_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "fill", .threads = 4});
    digests_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "digest", .threads = 4});
    cache = std::make_unique<ImageCache>(options_, *origin_client_, *pool_, *fills_, *digests_, clock, counters);
    loads_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "load"});
    const auto recovered = load_ == Load::at_once ? cache->recover() : cache->recover_in_background(*loads_);
    ASSERT_TRUE(recovered) << recovered.error().message;
    cache->start(io->next());
  }
  void stop() {
    if (!cache) return;
    io->run(cache->stop(base::in(std::chrono::seconds(20))));
    io->stop();
    loads_.reset();
    fills_.reset();
    digests_.reset();
    pool_.reset();
    io.reset();
    cache.reset();
  }
  /// From the next start on.
  void change(const std::function<void(Options&)>& how) { how(options_); }
  void restart() {
    stop();
    start();
  }

  Result<Reader> open(const std::string& id) { return io->run(cache->open(id, base::internal_context())); }
  /// Reads to the end as a client would, following the file while it grows.
  Result<std::string> read(Reader& reader) {
    std::string all;
    const std::uint64_t size = reader.size_bytes().value();
    while (all.size() < size) {
      auto available = io->run(reader.wait_available(all.size(), base::in(std::chrono::seconds(20))));
      if (!available) return std::unexpected(available.error());
      std::string part(*available - all.size(), '\0');
      const auto n = base::read_at(reader.fd(), std::as_writable_bytes(std::span(part)), all.size(), "test");
      if (!n || *n != part.size()) return fail(Errc::internal, "short read");
      all += part;
    }
    return all;
  }
  Result<std::string> get(const std::string& id) {
    auto reader = open(id);
    if (!reader) return std::unexpected(reader.error());
    auto bytes = read(*reader);
    if (bytes && reader->outcome() == Outcome::hit) cache->touch(id);
    return bytes;
  }
  /// get(), and the fill has ended: published, or given up.
  Result<std::string> get_and_settle(const std::string& id) {
    auto bytes = get(id);
    settle();
    return bytes;
  }
  void settle() {
    while (!cache->fills().empty()) std::this_thread::yield();
  }
  std::filesystem::path file(const std::string& name) const { return directory / "cache" / name; }

  test::TempDir directory;
  test::ScriptedOrigin origin;
  base::ManualClock clock;
  events::Counters counters{};
  std::unique_ptr<base::IoThreads> io;
  std::unique_ptr<ImageCache> cache;

 private:
  Options options_;
  std::unique_ptr<origin::Origin> origin_client_;
  Load load_;
  std::unique_ptr<base::BlockingPool> pool_, fills_, digests_, loads_;
};

}  // namespace imagecache::image_cache
