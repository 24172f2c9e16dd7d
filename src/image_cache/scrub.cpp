// Files at rest are read again at a set rate, in the order of their ids: disks forget, and a hit costs no hashing.
// Where it has got to is written to .cinder-image-cache/scrub, so that a restart goes on there.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::size_t chunk_bytes = 1 << 20;
constexpr std::chrono::seconds longest_sleep{60};
constexpr std::size_t skips_between_pauses = 256;
constexpr std::chrono::seconds between_saves{1};
// Opening a file, and asking what it should be, costs more than the bytes of a small one.
constexpr std::uint64_t most_files_per_s = 16;

struct Progress {
  double round_began = 0;  // seconds since the epoch; 0: none yet
  bool round_is_over = true;
  std::string last_id;
};

Progress read_progress(const std::filesystem::path& path) {
  Progress progress;
  const auto text = base::read_small_file(path, 4096);
  if (!text) return progress;
  const auto lines = base::split(*text, '\n');
  if (lines.size() < 3) return progress;
  progress.round_began = std::strtod(lines[0].c_str(), nullptr);
  progress.round_is_over = lines[1] != "running";
  progress.last_id = lines[2];
  return progress;
}

Result<void> write_progress(const std::filesystem::path& path, const Progress& progress) {
  return base::write_file_atomically(path, fmt::format("{:.0f}\n{}\n{}\n", progress.round_began,
                                                       progress.round_is_over ? "over" : "running", progress.last_id));
}

/// A chunk of the file into `data`. Pages that others have in memory stay there, those that only this brought go again.
Result<std::size_t> read_gently(int fd, std::span<std::byte> data, std::uint64_t offset, std::string_view name) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t pages = data.size() / page;
  std::vector<unsigned char> resident(pages, 1);
  void* map = ::mmap(nullptr, data.size(), PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (map != MAP_FAILED) {
    if (::mincore(map, data.size(), resident.data()) != 0) resident.assign(pages, 1);
    ::munmap(map, data.size());
  }
  IMAGECACHE_TRY(const std::size_t n, base::read_at(fd, data, offset, name));
  for (std::size_t first = 0; first < pages;) {
    if ((resident[first] & 1U) != 0) {
      ++first;
      continue;
    }
    std::size_t end = first;
    while (end < pages && (resident[end] & 1U) == 0) ++end;
    ::posix_fadvise(fd, static_cast<off_t>(offset + first * page), static_cast<off_t>((end - first) * page),
                    POSIX_FADV_DONTNEED);
    first = end;
  }
  return n;
}

}  // namespace

base::Task<bool> ImageCache::Impl::scrub_pace(std::uint64_t bytes) {
  const auto now = std::chrono::steady_clock::now();
  const auto wait = scrub_rate.take(bytes, now) - now;
  if (wait.count() <= 0) co_return true;
  co_return co_await pause(std::chrono::ceil<std::chrono::milliseconds>(wait));
}

base::Task<Result<bool>> ImageCache::Impl::scrub_file(std::string image_id) {
  std::optional<Verified> verified;
  {
    const std::lock_guard lock(mutex);
    const Entry* entry = entries.find(image_id);
    if (!entry || fills.contains(image_id)) co_return false;
    // Digested when it was published, or since.
    if (std::abs(now() - entry->last_modified) < static_cast<double>(options.scrub_interval.count())) co_return false;
    verified = entry->verified;
  }
  base::Fd file;
  struct stat status{};
  auto open = [&]() -> Result<void> {
    IMAGECACHE_TRY(file, base::open_file(layout.file(image_id), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    IMAGECACHE_TRY(status, base::stat_fd(file.get(), image_id));
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);  // no read-ahead that would have to be taken back
    if (!verified) {
      if (auto row = ledger->find_verified(image_id); row && *row) verified = **row;
    }
    return {};
  };
  const std::uint64_t least_cost_bytes = std::max<std::uint64_t>(options.scrub_bytes_per_s / most_files_per_s, 1);
  if (!co_await scrub_pace(least_cost_bytes)) co_return fail(Errc::cancelled, "stopping");
  // A file that is not there or cannot be opened is found out by the next who asks for it.
  if (!co_await base::offload(pool, open) || !S_ISREG(status.st_mode)) co_return false;

  std::string algorithm;
  std::string expected;
  const auto colon = verified ? verified->content_key.find(':') : std::string::npos;
  if (verified && verified->stamp == stamp_of(status) && colon != std::string::npos &&
      !verified->content_key.contains('@')) {
    algorithm = verified->content_key.substr(0, colon);
    expected = verified->content_key.substr(colon + 1);
  } else {
    // Told apart by a time of change, or not known to be anything yet: the origin knows what it should be.
    auto describe = [&]() -> Result<origin::ImageInfo> {
      base::RequestContext context = base::internal_context();
      if (options.service_context) {
        IMAGECACHE_TRY(context, options.service_context());
      }
      return origin.describe(image_id, context);
    };
    const auto info = co_await base::offload(pool, describe);
    const bool same = info && (!verified || verified->content_key == info->content_key());
    if (same && !info->os_hash_algo.empty() && !info->os_hash_value.empty()) {
      algorithm = info->os_hash_algo;
      expected = info->os_hash_value;
    } else if (same && !info->checksum.empty()) {
      algorithm = "md5";
      expected = info->checksum;
    }
    if (expected.empty() || (info && info->status != "active")) {
      counters.scrub_skips.fetch_add(1);
      base::log::debug("image_cache", nullptr, "image {}: not checked, nobody says what it should be", image_id);
      co_return false;
    }
  }
  auto digest = base::Digest::of(algorithm);
  if (!digest) {
    counters.scrub_skips.fetch_add(1);
    co_return false;
  }
  std::uint64_t paid_bytes = least_cost_bytes;
  std::vector<std::byte> chunk(chunk_bytes);
  std::optional<Error> unreadable;
  for (std::uint64_t offset = 0;;) {
    auto read = [&] {
      auto n = read_gently(file.get(), chunk, offset, image_id);
      if (n) digest->update(std::span(chunk).first(*n));
      return n;
    };
    const auto n = co_await base::offload(pool, read);
    if (!n && n.error().code == Errc::busy) co_return std::unexpected(n.error());
    if (!n) {
      unreadable = n.error();
      break;
    }
    if (*n == 0) break;
    offset += *n;
    counters.scrubbed_bytes.fetch_add(*n, std::memory_order_relaxed);
    if (offset <= paid_bytes) continue;
    if (!co_await scrub_pace(offset - paid_bytes)) co_return fail(Errc::cancelled, "stopping");
    paid_bytes = offset;
  }
  auto judge = [&]() -> Result<void> {
    // What was written meanwhile is another file, or will be verified by who opens it.
    const auto after = base::stat_fd(file.get(), image_id);
    if (!unreadable && after && !(stamp_of(*after) == stamp_of(status))) return {};
    counters.scrubbed_files.fetch_add(1);
    if (!unreadable && digest->hex() == base::to_lower(expected)) return {};
    counters.scrub_failures.fetch_add(1);
    invalidate(image_id, status, Left::invalid,
               unreadable ? "it cannot be read any more (" + unreadable->message + ")"
                          : "its content has changed where it lies");
    return {};
  };
  IMAGECACHE_CO_CHECK(co_await base::offload(pool, judge));
  co_return true;
}

base::Task<Result<void>> ImageCache::Impl::scrub_round() {
  const auto path = layout.own_dir() / "scrub";
  auto load = [&]() -> Result<Progress> { return read_progress(path); };
  IMAGECACHE_CO_TRY(Progress progress, co_await base::offload(pool, load));
  const double interval = static_cast<double>(options.scrub_interval.count());
  if (progress.round_is_over) {
    // A round that began in the future was begun by a clock that was wrong.
    const double since = now() - progress.round_began;
    if (since >= 0 && since < interval) co_return Result<void>();
    progress = {.round_began = now(), .round_is_over = false, .last_id = ""};
  }
  auto save = [&] { return write_progress(path, progress); };
  auto saved_at = std::chrono::steady_clock::now();
  for (std::size_t skipped = 0;;) {
    std::string next;
    bool ends = false;
    {
      const std::lock_guard lock(mutex);
      ends = stopping;
      entries.for_each_after(progress.last_id, 1, [&](const std::string& id, const Entry&) { next = id; });
    }
    if (!ends && !next.empty()) {
      Result<bool> was_read = co_await scrub_file(next);
      if (was_read) {
        progress.last_id = next;
        // Files that are not due yet cost a look each; others of this thread get their turn now and then.
        if (!*was_read && ++skipped % skips_between_pauses == 0)
          co_await base::asio::post(co_await base::asio::this_coro::executor, base::asio::use_awaitable);
        if (std::chrono::steady_clock::now() - saved_at < between_saves) continue;
      } else if (was_read.error().code != Errc::cancelled) {
        co_return std::unexpected(std::move(was_read).error());
      } else {
        ends = true;
      }
    }
    progress.round_is_over = !ends && next.empty();
    IMAGECACHE_CO_CHECK(co_await base::offload(pool, save));
    if (ends || progress.round_is_over) co_return Result<void>();
    saved_at = std::chrono::steady_clock::now();
  }
}

base::Task<void> ImageCache::Impl::scrub_loop() {
  std::string last_problem;
  if (!co_await loaded_at_last()) co_return;
  for (;;) {
    Result<void> outcome = co_await scrub_round();
    {
      const std::lock_guard lock(mutex);
      if (stopping) co_return;
    }
    note(last_problem, outcome, "checking files at rest");
    if (!co_await pause(std::min<std::chrono::milliseconds>(longest_sleep, options.scrub_interval))) co_return;
  }
}

}  // namespace imagecache::image_cache
