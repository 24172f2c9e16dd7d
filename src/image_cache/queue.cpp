// Images that are fetched without a reader: markers in queue/, ours, glance-api's or those of a tool, worked off one
// after the other.

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <tuple>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/found_files.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {
namespace {

// Other programs put markers there too.
constexpr std::chrono::seconds look_for_markers{60};
constexpr std::chrono::milliseconds shortest_retry{100};
constexpr unsigned most_doublings = 6;

/// Asking again will not mend it.
bool is_final(Errc code) {
  return code == Errc::not_found || code == Errc::unsupported || code == Errc::invalid_argument;
}

}  // namespace

base::Task<Result<void>> ImageCache::Impl::prefetch(std::string image_id, base::RequestContext context) {
  IMAGECACHE_CO_TRY(context, co_await service_context_or(std::move(context)));
  counters.origin_describes.fetch_add(1, std::memory_order_relaxed);
  auto ask = [&] { return origin.describe(image_id, context, stop_source.get_token()); };
  IMAGECACHE_CO_TRY(const origin::ImageInfo info, co_await base::offload(pool, ask));
  if (info.status != "active") co_return fail(Errc::conflict, "image " + info.id + ": its status is " + info.status);
  if (info.size_bytes.value_or(0) == 0) {
    co_return fail(Errc::unsupported, "image " + info.id + ": the origin does not say its size");
  }
  std::shared_ptr<Fill> fill;
  for (unsigned looks = 0; !fill; ++looks) {
    if (looks == 5) co_return fail(Errc::conflict, "image " + info.id + ": its file in the cache changes all the time");
    auto look = [&] { return look_at_file(info); };
    IMAGECACHE_CO_TRY(const Look found, co_await base::offload(pool, look));
    if (found.file) co_return Result<void>();
    if (found.doubtful) {
      IMAGECACHE_CO_CHECK(co_await verify(info, base::never));
      continue;
    }
    auto join = [&] { return join_or_start_fill(info, context, Whose::queue); };
    IMAGECACHE_CO_TRY(Joined joined, co_await base::offload(pool, join));
    fill = std::move(joined.fill);
  }
  {
    const std::lock_guard lock(mutex);
    if (auto* item = prefetches.find(image_id)) {
      item->fill = fill;
      if (item->cancelled) fill->stop_if_unread();
    }
  }
  for (;;) {
    const auto seen = fill->changed().version();
    const Fill::View view = fill->view();
    if (view.error) co_return std::unexpected(*view.error);
    // Who read along got it whole either way; here it is about the file.
    if (view.state == Fill::State::published && (is_cached(info.id) || fill->barred())) co_return Result<void>();
    if (view.state == Fill::State::published) {
      co_return fail(Errc::unavailable, "image " + info.id + ": it was fetched, and could not be kept in the cache");
    }
    co_await fill->changed().wait_past(seen);
  }
}

base::Task<void> ImageCache::Impl::prefetch_one(std::string image_id) {
  base::RequestContext context;
  {
    const std::lock_guard lock(mutex);
    if (const auto* item = prefetches.find(image_id)) context = item->context;
  }
  counters.prefetches_started.fetch_add(1);
  Result<void> done;
  try {
    done = co_await prefetch(image_id, std::move(context));
  } catch (const std::exception& problem) {
    done = fail(Errc::internal, problem.what());
  }
  bool over = done || is_final(done.error().code);
  bool news = !done;
  bool stopped = false;
  {
    const std::lock_guard lock(mutex);
    auto& item = *prefetches.find(image_id);
    stopped = stopping;
    if (item.cancelled) {
      over = true;
      news = false;
    } else if (done) {
      counters.prefetches_completed.fetch_add(1);
    } else {
      counters.prefetches_failed.fetch_add(1);
      news = item.last_error != done.error().message;
      item.last_error = done.error().message;
      ++item.failures;
    }
    if (stopped) over = over && done.has_value();
  }
  if (news && !stopped) {
    base::log::warning("image_cache", nullptr, "image {}: prefetch: {}{}", image_id, done.error().message,
                       over ? "; it is taken off the queue" : "; it is tried again later");
  }
  if (over) {
    auto remove = [&] { return base::remove_file(layout.queue(image_id)); };
    static_cast<void>(co_await base::offload(pool, remove));
  }
  {
    const std::lock_guard lock(mutex);
    const auto doublings = std::clamp(prefetches.find(image_id)->failures, 1U, most_doublings) - 1;
    const auto pause = std::max<std::chrono::milliseconds>(options.prefetch_retry_interval, shortest_retry);
    const auto again_at = std::chrono::steady_clock::now() + pause * (1U << doublings);
    prefetches.end(image_id, over ? std::nullopt : std::optional(again_at));
    counters.prefetch_queue_length = prefetches.size();
  }
  queue_changed.notify();
}

base::Task<void> ImageCache::Impl::prefetch_loop() {
  if (!co_await loaded_at_last()) co_return;
  const base::Executor here = co_await base::asio::this_coro::executor;
  auto look_again = std::chrono::steady_clock::time_point();
  for (;;) {
    const auto seen = queue_changed.version();
    const auto now = std::chrono::steady_clock::now();
    if (now >= look_again) {
      const auto additions = [this] {
        const std::lock_guard lock(mutex);
        return prefetches.additions();
      }();
      auto list = [&] { return markers(); };
      const auto found = co_await base::offload(pool, list);
      look_again = now + look_for_markers;
      const std::lock_guard lock(mutex);
      if (found) prefetches.merge(*found, base::internal_context(), additions);
      counters.prefetch_queue_length = prefetches.size();
    }
    std::optional<std::chrono::steady_clock::time_point> next;
    for (;;) {
      std::optional<std::string> id;
      {
        const std::lock_guard lock(mutex);
        if (stopping) co_return;
        const bool may_start = prefetches.running() < std::max(1U, options.prefetch_concurrency);
        if (may_start) id = prefetches.take(now);
        if (!id && may_start) next = prefetches.next();
      }
      if (!id) break;
      background.spawn(here, prefetch_one(std::move(*id)));
    }
    co_await queue_changed.wait_past(seen, next ? std::min(*next, look_again) : look_again);
  }
}

Result<std::vector<FoundFile>> ImageCache::Impl::markers() const {
  IMAGECACHE_TRY(auto files, files_in(layout.queue_dir()));
  std::erase_if(files, [](const FoundFile& file) { return !base::is_safe_name(file.name); });
  std::ranges::sort(files, [](const FoundFile& a, const FoundFile& b) {
    return std::tie(a.mtime, a.name) < std::tie(b.mtime, b.name);
  });
  return files;
}

base::Task<Result<void>> ImageCache::queue(std::string image_id, base::RequestContext context) {
  Impl& impl = *impl_;
  if (!base::is_safe_name(image_id))
    co_return fail(Errc::invalid_argument, "image '" + image_id + "': not an image id");
  // A marker that is there keeps its time, and so its place. It is empty, so there is no half of it; a file of another
  // name beside it would be taken for one.
  auto mark = [&]() -> Result<std::optional<double>> {
    if (impl.meet(image_id)) return std::nullopt;
    const auto made = base::open_file(impl.layout.queue(image_id), O_WRONLY | O_CREAT | O_EXCL);
    if (!made && made.error().code != Errc::already_exists) return std::unexpected(made.error());
    IMAGECACHE_CHECK(base::sync_directory(impl.layout.queue_dir()));
    struct stat status{};
    if (::stat(impl.layout.queue(image_id).c_str(), &status) != 0) return impl.now();
    return static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) / 1e9;
  };
  IMAGECACHE_CO_TRY(const std::optional<double> since, co_await base::offload(impl.pool, mark));
  if (!since) co_return Result<void>();  // it is cached
  {
    const std::lock_guard lock(impl.mutex);
    impl.prefetches.add(image_id, *since, std::move(context));
    // Asked for again: it need not wait until its next attempt is due.
    if (auto* item = impl.prefetches.find(image_id)) {
      item->not_before = {};
      item->cancelled = false;
    }
    impl.counters.prefetch_queue_length = impl.prefetches.size();
  }
  impl.queue_changed.notify();
  co_return Result<void>();
}

std::vector<std::string> ImageCache::queued() const {
  std::vector<std::string> ids;
  for (auto& file : impl_->markers().value_or(std::vector<FoundFile>())) ids.push_back(std::move(file.name));
  return ids;
}

base::Task<Result<void>> ImageCache::unqueue(std::string image_id) {
  if (!base::is_safe_name(image_id)) co_return Result<void>();
  Impl& impl = *impl_;
  {
    const std::lock_guard lock(impl.mutex);
    if (auto* item = impl.prefetches.find(image_id)) {
      impl.counters.prefetches_cancelled.fetch_add(1);
      if (item->running) {
        item->cancelled = true;
        if (item->fill) item->fill->stop_if_unread();
      } else {
        impl.prefetches.erase(image_id);
      }
      impl.counters.prefetch_queue_length = impl.prefetches.size();
    }
  }
  auto work = [&] { return base::remove_file(impl.layout.queue(image_id)); };
  co_return co_await base::offload(impl.pool, work);
}

base::Task<Result<Removed>> ImageCache::unqueue_all() {
  Removed removed;
  Impl& impl = *impl_;
  auto list = [&] { return impl.markers(); };
  IMAGECACHE_CO_TRY(const auto found, co_await base::offload(impl.pool, list));
  for (const auto& file : found) {
    IMAGECACHE_CO_CHECK(co_await unqueue(file.name));
    ++removed.files;
  }
  co_return removed;
}

}  // namespace imagecache::image_cache
