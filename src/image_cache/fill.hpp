// One image on its way from the origin into incomplete/<id>, and all who read along. It belongs to the cache, not to
// who asked first. Two threads work on it: one receives and writes, one digests what has been written; readers follow
// the bytes in the file.
//
//   queued → receiving → verified → published
//        └──────┴────────────┴────→ failed
//
// Whose token the bytes are fetched with is no matter of the readers' rights: each of them was admitted by the origin.
// When a token is no longer good the next reader's is used, and after the last the service's own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.hpp"
#include "base/request_context.hpp"
#include "base/task.hpp"
#include "events/counters.hpp"
#include "image_cache/image_cache.hpp"
#include "image_cache/layout.hpp"
#include "image_cache/ledger.hpp"
#include "image_cache/rate_limit.hpp"
#include "origin/origin.hpp"

namespace imagecache::image_cache {

class Fill {
 public:
  enum class State { queued, receiving, verified, published, failed };

  struct Start {
    origin::ImageInfo info;
    base::RequestContext context;
    bool resume = false;           ///< incomplete/<id> holds a part of just this content
    RateLimit* rate = nullptr;     ///< while nobody reads along; the queue's
    bool service_at_once = false;  ///< `context` is the service's: a fresh one may be asked for before any byte came
  };
  /// References outlive the fill.
  Fill(const Options& options, const Layout& layout, origin::Origin& origin, events::Counters& counters, Start start);

  const origin::ImageInfo& info() const { return info_; }
  std::uint64_t size_bytes() const { return size_bytes_; }

  /// Another caller whom the origin has allowed this image: if the first one's token expires, this one's may go on.
  void add_context(base::RequestContext context);
  void request_stop() { stop_.request_stop(); }

  /// Who reads along; see Following. A fill that is barred ends when the last one leaves.
  void add_reader();
  void remove_reader();
  std::size_t readers() const;
  /// It is not to be published: the image was removed, or is another by now. Those who read along get their bytes to
  /// the end; without any it ends at once.
  void bar();
  bool barred() const;
  /// Ends it if nobody reads along; what has come stays to be gone on with.
  void stop_if_unread();

  /// Blocks, on a fill thread, with the id's lock held: opens the partial file and takes the room on disk.
  Result<void> open_partial();
  /// Blocks, on the same thread: receives until all has come, waits for the digest. On success the file is verified and
  /// synced, and still in incomplete/. On failure of a kind that may be gone on with later the partial file stays,
  /// otherwise it is gone (a wrong digest: to invalid/).
  Result<void> receive(base::BlockingPool& digest_pool);
  /// The end: published, or failed with the reason. Wakes all.
  void finish(Result<void> outcome);

  // What readers look at. Any thread.
  struct View {
    State state = State::queued;
    /// Grows when the fill began anew from the first byte because what it went on from was wrong: who has handed on
    /// bytes of an earlier epoch must not complete.
    std::uint64_t epoch = 0;
    /// Bytes from the start that may be handed on: short of the end by hold_back_bytes until the digest is right.
    std::uint64_t readable_bytes = 0;
    std::optional<Error> error;
  };
  View view() const;
  State state() const;
  std::uint64_t written_bytes() const;
  std::uint64_t received_bytes() const;  ///< from the origin, by this fill
  std::optional<Error> error() const;
  base::Signal& changed() { return changed_; }
  /// Valid from State::receiving on, for the life of the fill.
  int fd() const { return file_.get(); }

 private:
  Result<void> receive_and_digest(base::BlockingPool& digest_pool);
  Result<void> receive_all();
  Result<void> receive_once();
  Result<void> begun(const origin::StreamStart& start, std::uint64_t offset);
  Result<void> append(std::span<const std::byte> data);
  void wake_readers(std::uint64_t written);
  void keep_to_rate(std::uint64_t bytes);
  bool use_another_context();
  Result<void> restart();
  Result<void> check_digest();
  void digest_written(std::uint64_t generation);

  const Options& options_;
  const Layout& layout_;
  origin::Origin& origin_;
  events::Counters& counters_;
  const origin::ImageInfo info_;
  const std::uint64_t size_bytes_;
  RateLimit* const rate_;
  bool resume_;
  base::Fd file_;
  std::stop_source stop_;

  mutable std::mutex mutex_;
  std::condition_variable written_changed_;
  std::condition_variable_any pace_changed_;
  // Protected by mutex_.
  State state_ = State::queued;
  std::uint64_t written_ = 0;
  std::uint64_t received_ = 0;
  std::optional<Error> error_;
  std::vector<base::RequestContext> contexts_;
  std::size_t context_in_use_ = 0;
  std::optional<std::uint64_t> service_asked_at_;  // bytes written when the service's credentials were last fetched
  bool service_at_once_;
  std::size_t readers_ = 0;
  bool barred_ = false;
  std::uint64_t epoch_ = 0;
  std::uint64_t generation_ = 0;  // of the digest: a restart from zero begins another
  bool digest_running_ = false;
  bool receiving_done_ = false;
  std::string digest_;  // hex, once the digest thread is through

  base::Signal changed_;
  // Fill thread only.
  std::uint64_t notified_at_ = 0;
  std::chrono::steady_clock::time_point notified_when_{};
  std::uint64_t skip_ = 0;        // bytes that come again from an origin without ranges
  std::string etag_;              // of the version that the bytes so far are of
  bool pieced_together_ = false;  // of more than one transfer: then a wrong digest may be the pieces' fault
};

/// One who reads along, for as long as this lives. Movable.
class Following {
 public:
  Following() = default;
  explicit Following(std::shared_ptr<Fill> fill) : fill_(std::move(fill)) { fill_->add_reader(); }
  Following(Following&& other) noexcept : fill_(std::exchange(other.fill_, nullptr)) {}
  Following& operator=(Following&& other) noexcept {
    if (this != &other) {
      reset();
      fill_ = std::exchange(other.fill_, nullptr);
    }
    return *this;
  }
  Following(const Following&) = delete;
  Following& operator=(const Following&) = delete;
  ~Following() { reset(); }

  explicit operator bool() const { return fill_ != nullptr; }
  Fill& operator*() const { return *fill_; }
  Fill* operator->() const { return fill_.get(); }

 private:
  void reset() {
    if (fill_) fill_->remove_reader();
    fill_.reset();
  }
  std::shared_ptr<Fill> fill_;  // shared with the cache, its thread and the other readers
};

}  // namespace imagecache::image_cache
