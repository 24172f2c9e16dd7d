// One image on its way from the origin into incomplete/<id>, and all who read along. It belongs to the cache, not to
// who asked first. Two threads work on it: one receives and writes, one digests what has been written; readers follow
// the bytes in the file.
//
//   queued → receiving → verified → published
//        └──────┴────────────┴────→ failed
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/request_context.hpp"
#include "base/task.hpp"
#include "events/counters.hpp"
#include "image_cache/image_cache.hpp"
#include "image_cache/layout.hpp"
#include "image_cache/ledger.hpp"
#include "origin/origin.hpp"

namespace imagecache::image_cache {

class Fill {
 public:
  enum class State { queued, receiving, verified, published, failed };

  /// `resume`: incomplete/<id> holds a part of just this content. References outlive the fill.
  Fill(const Options& options, const Layout& layout, origin::Origin& origin, events::Counters& counters,
       origin::ImageInfo info, base::RequestContext context, bool resume);

  const origin::ImageInfo& info() const { return info_; }
  std::uint64_t size_bytes() const { return size_bytes_; }

  /// Another caller whom the origin has allowed this image: if the first one's token expires, this one's may go on.
  void add_context(base::RequestContext context);
  void request_stop() { stop_.request_stop(); }

  /// Blocks, on a fill thread: opens the partial file and takes the room on disk, receives until all has come, waits
  /// for the digest. On success the file is verified and synced, and still in incomplete/. On failure of a kind that
  /// may be gone on with later the partial file stays, otherwise it is gone (a wrong digest: to invalid/).
  Result<void> receive(base::BlockingPool& digest_pool);
  /// The end: published, or failed with the reason. Wakes all.
  void finish(Result<void> outcome);

  // What readers look at. Any thread.
  State state() const;
  std::uint64_t written_bytes() const;
  /// Grows when the fill began anew from the first byte because what it went on from was wrong: who has handed on bytes
  /// of an earlier epoch must not complete.
  std::uint64_t epoch() const;
  std::optional<Error> error() const;
  /// Bytes from the start that may be handed on: short of the end by hold_back_bytes until the digest is right.
  std::uint64_t readable_bytes() const;
  base::Signal& changed() { return changed_; }
  /// Valid from State::receiving on, for the life of the fill.
  int fd() const { return file_.get(); }

 private:
  Result<void> open_partial();
  Result<void> receive_all();
  Result<void> receive_once();
  Result<void> append(std::span<const std::byte> data);
  Result<void> restart();
  Result<void> check_digest();
  void digest_written(std::uint64_t generation);

  const Options& options_;
  const Layout& layout_;
  origin::Origin& origin_;
  events::Counters& counters_;
  const origin::ImageInfo info_;
  const std::uint64_t size_bytes_;
  bool resume_;
  base::Fd file_;
  std::stop_source stop_;

  mutable std::mutex mutex_;
  std::condition_variable written_changed_;
  // Protected by mutex_.
  State state_ = State::queued;
  std::uint64_t written_ = 0;
  std::optional<Error> error_;
  std::vector<base::RequestContext> contexts_;
  std::size_t context_in_use_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t generation_ = 0;  // of the digest: a restart from zero begins another
  bool digest_running_ = false;
  bool receiving_done_ = false;
  std::string digest_;  // hex, once the digest thread is through

  base::Signal changed_;
  // Fill thread only.
  std::uint64_t notified_at_ = 0;
  std::uint64_t skip_ = 0;  // bytes that come again from an origin without ranges
};

}  // namespace imagecache::image_cache
