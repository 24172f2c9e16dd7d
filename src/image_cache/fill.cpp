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
// How much is written before a few readers are woken.
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
           Start start)
    : options_(options),
      layout_(layout),
      origin_(origin),
      counters_(counters),
      info_(std::move(start.info)),
      size_bytes_(info_.size_bytes.value_or(0)),
      rate_(start.rate),
      resume_(start.resume),
      service_at_once_(start.service_at_once) {
  contexts_.push_back(std::move(start.context));
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
  if (resume_) {
    counters_.fills_resumed.fetch_add(1);
    base::log::info("image_cache", nullptr, "image {}: going on at byte {} of {}", info_.id, written_bytes(),
                    size_bytes_);
  }
  pieced_together_ = resume_;
  auto received = receive_and_digest(digest_pool);
  const auto is_wrong = [&] {
    return !received && (received.error().code == Errc::corrupt || received.error().code == Errc::conflict);
  };
  if (is_wrong() && pieced_together_ && !stop_.stop_requested()) {
    // Its pieces may be of different versions, or the one that was there before us may have holes that a power failure
    // left. In one go they are of one version, or the origin is wrong.
    base::log::warning("image_cache", nullptr, "{}; fetching it anew", received.error().message);
    counters_.fills_restarted.fetch_add(1);
    IMAGECACHE_CHECK(restart());
    received = receive_and_digest(digest_pool);
  }
  if (!received) {
    const Errc code = received.error().code;
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

Result<void> Fill::receive_and_digest(base::BlockingPool& digest_pool) {
  std::uint64_t generation = 0;
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
  return received;
}

Result<void> Fill::restart() {
  if (::ftruncate(file_.get(), 0) != 0) return base::fail_errno(layout_.incomplete(info_.id).native(), errno);
  if (::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size_bytes_)) != 0 && errno != EOPNOTSUPP) {
    return base::fail_errno(layout_.incomplete(info_.id).native(), errno);
  }
  etag_.clear();
  pieced_together_ = false;
  notified_at_ = 0;
  {
    const std::lock_guard lock(mutex_);
    written_ = 0;
    ++generation_;
    ++epoch_;
  }
  changed_.notify();
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
      if (!use_another_context()) return received;
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
  // Two answers without a digest and without a version may be of two images, and nothing would tell.
  if (written_bytes() > 0 && written_bytes() < size_bytes_ && etag_.empty() && expected_digest(info_).hex.empty()) {
    IMAGECACHE_CHECK(restart());
  }
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
  if (offset > 0) pieced_together_ = true;
  const auto begin = [&](const origin::StreamStart& start) { return begun(start, offset); };
  const auto take = [this](std::span<const std::byte> data) { return append(data); };
  return origin_.stream(info_.id, {offset, etag_, info_.checksum}, context, begin, take, stop_.get_token());
}

Result<void> Fill::begun(const origin::StreamStart& start, std::uint64_t offset) {
  if (start.total_bytes && *start.total_bytes != size_bytes_) {
    return fail(Errc::corrupt, fmt::format("image {}: the origin announces {} bytes, the image has {}", info_.id,
                                           *start.total_bytes, size_bytes_));
  }
  if (start.offset_bytes > offset) return fail(Errc::corrupt, "image " + info_.id + ": the origin began too far on");
  if (offset > 0 && !etag_.empty() && !start.etag.empty() && start.etag != etag_) {
    return fail(Errc::conflict, "image " + info_.id + ": it has changed at the origin while it was fetched");
  }
  if (!start.etag.empty()) etag_ = start.etag;
  {
    const std::lock_guard lock(mutex_);
    state_ = State::receiving;
    // An origin without ranges sends all of it again. What we have stays, for readers are on it; the bytes up to
    // there are received and dropped.
    skip_ = offset - start.offset_bytes;
  }
  changed_.notify();
  return {};
}

Result<void> Fill::append(std::span<const std::byte> data) {
  counters_.fill_bytes.fetch_add(data.size(), std::memory_order_relaxed);
  const std::size_t received = data.size();
  if (skip_ > 0) {
    const std::size_t dropped = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, data.size()));
    skip_ -= dropped;
    data = data.subspan(dropped);
  }
  if (!data.empty()) {
    const std::uint64_t at = written_bytes();
    if (data.size() > size_bytes_ - at) {
      return fail(Errc::corrupt,
                  fmt::format("image {}: the origin sends more than the {} bytes it announced", info_.id, size_bytes_));
    }
    IMAGECACHE_CHECK(base::write_all_at(file_.get(), data, at, layout_.incomplete(info_.id).native()));
    {
      const std::lock_guard lock(mutex_);
      written_ = at + data.size();
      received_ += received;
    }
    written_changed_.notify_one();
    base::crash_point("fill.written");
    wake_readers(at + data.size());
  }
  if (rate_ != nullptr) keep_to_rate(received);
  return {};
}

// A wake-up costs each reader a turn of its event loop: many wait longer for more at a time. The first bytes are told
// at once, and so are those of a slow origin, for they are few.
void Fill::wake_readers(std::uint64_t written) {
  constexpr std::uint64_t readers_per_step = 64;
  constexpr std::chrono::milliseconds longest_wait{20};
  const std::uint64_t step = notify_every_bytes * (1 + changed_.waiters() / readers_per_step);
  const auto now = std::chrono::steady_clock::now();
  const bool first = notified_at_ == 0 || written < notified_at_;
  if (!first && written - notified_at_ < step && written != size_bytes_ && now - notified_when_ < longest_wait) return;
  notified_at_ = written;
  notified_when_ = now;
  changed_.notify();
}

void Fill::keep_to_rate(std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  if (readers_ > 0) return;
  counters_.prefetch_bytes.fetch_add(bytes, std::memory_order_relaxed);
  if (!rate_->is_limited()) return;
  const auto due = rate_->take(bytes, std::chrono::steady_clock::now());
  // Somebody who comes to read is not kept waiting by a limit that was made for nobody.
  pace_changed_.wait_until(lock, stop_.get_token(), due, [this] { return readers_ > 0; });
}

bool Fill::use_another_context() {
  {
    const std::lock_guard lock(mutex_);
    if (context_in_use_ + 1 < contexts_.size()) {
      ++context_in_use_;
      return true;
    }
    // Before the first byte a denial is an answer, and the readers' own. Later it is only a token that has expired; and
    // the service's own may do so too, but not twice at one place.
    if (!options_.service_context || stop_.stop_requested()) return false;
    if (state_ != State::receiving && !service_at_once_) return false;
    if (service_asked_at_ && *service_asked_at_ == written_) return false;
    service_asked_at_ = written_;
  }
  auto service = options_.service_context();
  if (!service) {
    base::log::warning("image_cache", nullptr, "image {}: no reader's token is good any more, and {}", info_.id,
                       service.error().message);
    return false;
  }
  base::log::info("image_cache", nullptr,
                  "image {}: no reader's token is good any more; going on with the service's own", info_.id);
  const std::lock_guard lock(mutex_);
  contexts_.push_back(std::move(*service));
  context_in_use_ = contexts_.size() - 1;
  return true;
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

}  // namespace imagecache::image_cache
