#include "image_cache/fill.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/crash_point.hpp"
#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::size_t digest_chunk_bytes = 1 << 20;
// How much is written before readers are woken: a wake-up costs each of them a turn of its event loop.
constexpr std::uint64_t notify_every_bytes = 1 << 20;

/// What the bytes are held against: the origin's hash, else its MD5, else nothing.
struct Expected {
  std::string algorithm;
  std::string hex;
};

Expected expected_digest(const origin::ImageInfo& info) {
  if (!info.os_hash_algo.empty() && !info.os_hash_value.empty() && base::Digest::of(info.os_hash_algo)) {
    return {info.os_hash_algo, base::to_lower(info.os_hash_value)};
  }
  if (!info.checksum.empty()) return {"md5", base::to_lower(info.checksum)};
  return {};
}

bool may_be_resumed(Errc code) {
  return code == Errc::unavailable || code == Errc::timeout || code == Errc::cancelled || code == Errc::busy ||
         code == Errc::unauthenticated;
}

}  // namespace

Fill::Fill(const Options& options, const Layout& layout, origin::Origin& origin, events::Counters& counters,
           origin::ImageInfo info, base::RequestContext context, bool resume)
    : options_(options),
      layout_(layout),
      origin_(origin),
      counters_(counters),
      info_(std::move(info)),
      size_bytes_(info_.size_bytes.value_or(0)),
      resume_(resume) {
  contexts_.push_back(std::move(context));
}

void Fill::add_context(base::RequestContext context) {
  const std::lock_guard lock(mutex_);
  const bool known = std::ranges::any_of(contexts_, [&](const auto& c) { return c.auth_token == context.auth_token; });
  if (!known) contexts_.push_back(std::move(context));
}

Fill::State Fill::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::uint64_t Fill::epoch() const {
  const std::lock_guard lock(mutex_);
  return epoch_;
}

std::uint64_t Fill::written_bytes() const {
  const std::lock_guard lock(mutex_);
  return written_;
}

std::optional<Error> Fill::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

std::uint64_t Fill::readable_bytes() const {
  const std::lock_guard lock(mutex_);
  if (state_ == State::verified || state_ == State::published) return size_bytes_;
  if (state_ != State::receiving) return 0;
  const std::uint64_t held = size_bytes_ > options_.hold_back_bytes ? size_bytes_ - options_.hold_back_bytes : 0;
  return std::min(written_, held);
}

Result<void> Fill::open_partial() {
  const auto path = layout_.incomplete(info_.id);
  IMAGECACHE_TRY(file_, base::open_file(path, O_RDWR | O_CREAT | (resume_ ? 0 : O_TRUNC)));
  IMAGECACHE_TRY(const struct stat info, base::stat_fd(file_.get(), path.native()));
  std::uint64_t have = static_cast<std::uint64_t>(info.st_size);
  if (have > size_bytes_) {
    if (::ftruncate(file_.get(), 0) != 0) return base::fail_errno(path.native(), errno);
    have = 0;
  }
  resume_ = have > 0;
  // The room is really taken before a byte comes, and in few extents; the file's size still tells how far we got.
  if (::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size_bytes_)) != 0 && errno != EOPNOTSUPP) {
    return base::fail_errno(path.native(), errno);
  }
  const std::lock_guard lock(mutex_);
  written_ = have;
  return {};
}

Result<void> Fill::receive(base::BlockingPool& digest_pool) {
  counters_.fills_started.fetch_add(1);
  if (auto opened = open_partial(); !opened) {
    if (opened.error().code == Errc::no_space || !resume_)
      static_cast<void>(base::remove_file(layout_.incomplete(info_.id)));
    return opened;
  }
  if (resume_) {
    counters_.fills_resumed.fetch_add(1);
    base::log::info("image_cache", nullptr, "image {}: going on at byte {} of {}", info_.id, written_bytes(),
                    size_bytes_);
  }
  for (;;) {
    std::uint64_t generation = 0;
    const bool began_with_part = written_bytes() > 0;
    {
      const std::lock_guard lock(mutex_);
      generation = generation_;
      digest_running_ = true;
      receiving_done_ = false;
      digest_.clear();
    }
    if (!digest_pool.post([this, generation] { digest_written(generation); })) {
      const std::lock_guard lock(mutex_);
      digest_running_ = false;
      return fail(Errc::busy, "image " + info_.id + ": too many fills are running, try again later");
    }
    auto received = receive_all();
    {
      std::unique_lock lock(mutex_);
      receiving_done_ = true;
      if (!received) ++generation_;  // the digest is of no use: let its thread go
      written_changed_.notify_all();
      written_changed_.wait(lock, [this] { return !digest_running_; });
    }
    if (received) received = check_digest();
    if (received) break;
    const Errc code = received.error().code;
    if (code == Errc::corrupt && began_with_part && !stop_.stop_requested()) {
      // The part that was there before us may be what is wrong: a power failure can leave holes in it.
      base::log::warning("image_cache", nullptr, "{}; fetching it anew", received.error().message);
      IMAGECACHE_CHECK(restart());
      continue;
    }
    if (code == Errc::corrupt) {
      counters_.fill_digest_mismatches.fetch_add(1);
      static_cast<void>(base::rename_durably(layout_.incomplete(info_.id), layout_.invalid(info_.id)));
      counters_.image_files_invalidated.fetch_add(1);
    } else if (!may_be_resumed(code)) {
      static_cast<void>(base::remove_file(layout_.incomplete(info_.id)));
    }
    return received;
  }
  {
    const std::lock_guard lock(mutex_);
    state_ = State::verified;
  }
  changed_.notify();
  base::crash_point("fill.verified");
  IMAGECACHE_CHECK(base::sync_file(file_.get(), layout_.incomplete(info_.id).native()));
  base::crash_point("publish.synced");
  return {};
}

Result<void> Fill::restart() {
  if (::ftruncate(file_.get(), 0) != 0) return base::fail_errno(layout_.incomplete(info_.id).native(), errno);
  const std::lock_guard lock(mutex_);
  written_ = 0;
  ++generation_;
  ++epoch_;
  return {};
}

Result<void> Fill::receive_all() {
  unsigned failures = 0;
  for (;;) {
    const std::uint64_t before = written_bytes();
    auto received = receive_once();
    if (received && written_bytes() < size_bytes_) {
      received = fail(Errc::unavailable, fmt::format("image {}: the origin ended at byte {} of {}", info_.id,
                                                     written_bytes(), size_bytes_));
    }
    if (received) return {};
    if (stop_.stop_requested()) return fail(Errc::cancelled, "image " + info_.id + ": the fill was stopped");
    const Errc code = received.error().code;
    if (code == Errc::unauthenticated || code == Errc::forbidden || code == Errc::not_found) {
      // This caller may not, or no longer; another who waits for the same image may.
      const std::lock_guard lock(mutex_);
      if (context_in_use_ + 1 >= contexts_.size()) return received;
      ++context_in_use_;
      continue;
    }
    if (code != Errc::unavailable && code != Errc::timeout) return received;
    failures = written_bytes() > before ? 1 : failures + 1;
    if (failures >= options_.fill_attempts) return received;
    base::log::warning("image_cache", nullptr, "image {}: {}; going on at byte {}", info_.id, received.error().message,
                       written_bytes());
    std::unique_lock lock(mutex_);
    std::condition_variable_any().wait_for(lock, stop_.get_token(), options_.fill_retry_pause, [] { return false; });
  }
}

Result<void> Fill::receive_once() {
  base::RequestContext context;
  std::uint64_t offset = 0;
  {
    const std::lock_guard lock(mutex_);
    context = contexts_[context_in_use_];
    offset = written_;
    if (offset == size_bytes_) {  // all was there; only the digest was missing
      state_ = State::receiving;
      return {};
    }
  }
  const auto begin = [&](const origin::StreamStart& start) -> Result<void> {
    if (start.total_bytes && *start.total_bytes != size_bytes_) {
      return fail(Errc::corrupt, fmt::format("image {}: the origin announces {} bytes, the image has {}", info_.id,
                                             *start.total_bytes, size_bytes_));
    }
    if (start.offset_bytes > offset) return fail(Errc::corrupt, "image " + info_.id + ": the origin began too far on");
    {
      const std::lock_guard lock(mutex_);
      state_ = State::receiving;
      // An origin without ranges sends all of it again. What we have stays, for readers are on it; the bytes up to
      // there are received and dropped.
      skip_ = offset - start.offset_bytes;
    }
    changed_.notify();
    return {};
  };
  return origin_.stream(
      info_.id, offset, context, begin, [this](std::span<const std::byte> data) { return append(data); },
      stop_.get_token());
}

Result<void> Fill::append(std::span<const std::byte> data) {
  counters_.fill_bytes.fetch_add(data.size(), std::memory_order_relaxed);
  if (skip_ > 0) {
    const std::size_t dropped = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, data.size()));
    skip_ -= dropped;
    data = data.subspan(dropped);
    if (data.empty()) return {};
  }
  const std::uint64_t at = written_bytes();
  if (data.size() > size_bytes_ - at) {
    return fail(Errc::corrupt,
                fmt::format("image {}: the origin sends more than the {} bytes it announced", info_.id, size_bytes_));
  }
  IMAGECACHE_CHECK(base::write_all_at(file_.get(), data, at, layout_.incomplete(info_.id).native()));
  const std::uint64_t now = at + data.size();
  {
    const std::lock_guard lock(mutex_);
    written_ = now;
  }
  written_changed_.notify_one();
  base::crash_point("fill.written");
  if (now - notified_at_ >= notify_every_bytes || now == size_bytes_ || now < notified_at_) {
    notified_at_ = now;
    changed_.notify();
  }
  return {};
}

void Fill::digest_written(std::uint64_t generation) {
  const Expected expected = expected_digest(info_);
  auto digest = base::Digest::of(expected.algorithm.empty() ? "md5" : expected.algorithm);
  std::vector<std::byte> chunk(digest_chunk_bytes);
  std::uint64_t done = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    written_changed_.wait(lock, [&] {
      return generation != generation_ || written_ >= done + chunk.size() || receiving_done_ || written_ == size_bytes_;
    });
    if (generation != generation_ || expected.hex.empty() || !digest || done == size_bytes_) break;
    const std::uint64_t until = written_;
    if (until == done && receiving_done_) break;
    lock.unlock();
    bool readable = true;
    while (done < until && readable) {
      const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), until - done));
      const auto n = base::read_at(file_.get(), std::span(chunk).first(want), done, "image file");
      readable = n && *n == want;
      if (readable) digest->update(std::span(chunk).first(want));
      done += want;
    }
    lock.lock();
    if (!readable) break;
  }
  if (digest && !expected.hex.empty() && done == size_bytes_ && generation == generation_) digest_ = digest->hex();
  digest_running_ = false;
  written_changed_.notify_all();
}

Result<void> Fill::check_digest() {
  const Expected expected = expected_digest(info_);
  if (expected.hex.empty()) {
    base::log::warning("image_cache", nullptr, "image {}: the origin names no digest; only its length was checked",
                       info_.id);
    return {};
  }
  const std::lock_guard lock(mutex_);
  if (digest_ == expected.hex) return {};
  return fail(Errc::corrupt, fmt::format("image {}: its {} is {}, the origin says {}", info_.id, expected.algorithm,
                                         digest_.empty() ? "unreadable" : digest_, expected.hex));
}

void Fill::finish(Result<void> outcome) {
  {
    const std::lock_guard lock(mutex_);
    if (outcome) {
      state_ = State::published;
    } else if (state_ != State::verified) {
      state_ = State::failed;
      error_ = std::move(outcome).error();
    } else {
      // Its bytes are right and the descriptor is open: whoever reads it gets it whole, though it could not be kept.
      state_ = State::published;
    }
  }
  changed_.notify();
}

}  // namespace imagecache::image_cache
