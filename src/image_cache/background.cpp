// What runs on its own, and its end.

#include "base/log.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

void ImageCache::start(const base::Executor& executor) {
  impl_->executor = executor;
  impl_->background.spawn(executor, impl_->flush_loop());
  impl_->background.spawn(executor, impl_->clean_loop());
  impl_->background.spawn(executor, impl_->prune_loop());
  if (impl_->options.scrub_bytes_per_s > 0) impl_->background.spawn(executor, impl_->scrub_loop());
  impl_->background.spawn(executor, impl_->prefetch_loop());
}

// Background work that fails goes on failing, each round: it is said once, and again when it is something else.
void ImageCache::Impl::note(std::string& last, const Result<void>& outcome, std::string_view what) {
  const std::string message = outcome ? "" : outcome.error().message;
  if (message == last) return;
  if (outcome) {
    base::log::info("image_cache", nullptr, "{}: works again", what);
  } else {
    base::log::warning("image_cache", nullptr, "{}: {}", what, message);
  }
  last = message;
}

base::Task<bool> ImageCache::Impl::pause(std::chrono::milliseconds time) {
  const auto until = base::in(time);
  for (;;) {
    const auto seen = stop_signal.version();
    {
      const std::lock_guard lock(mutex);
      if (stopping) co_return false;
    }
    if (!co_await stop_signal.wait_past(seen, until)) co_return true;
  }
}

base::Task<void> ImageCache::Impl::flush_loop() {
  std::string last_problem;
  if (!co_await loaded_at_last()) co_return;
  while (co_await pause(options.flush_interval)) {
    auto work = [this] {
      std::vector<OpenFile> idle;  // closed here, where it may take its time
      {
        const std::lock_guard lock(mutex);
        idle = entries.take_idle_files();
      }
      return flush_now();
    };
    note(last_problem, co_await base::offload(pool, work), "writing what was used");
  }
}

base::Task<void> ImageCache::Impl::clean_loop() {
  std::string last_problem;
  if (!co_await loaded_at_last()) co_return;
  while (co_await pause(options.clean_interval)) {
    auto work = [this]() -> Result<void> {
      IMAGECACHE_CHECK(clean_now());
      return follow_others();
    };
    note(last_problem, co_await base::offload(pool, work), "cleaning");
  }
}

base::Task<void> ImageCache::Impl::prune_loop() {
  std::string last_problem;
  if (!co_await loaded_at_last()) co_return;
  while (co_await pause(options.prune_interval)) {
    auto work = [this] { return prune_in_background(); };
    note(last_problem, co_await base::offload(pool, work), "making room ahead");
  }
}

void ImageCache::end_fills() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stopping = true;
  impl_->stop_source.request_stop();
  for (auto& [id, fill] : impl_->fills) fill->request_stop();
  impl_->load_ended.notify();
  impl_->admissions.give_up({Errc::unavailable, "the image cache is stopping"});
}

base::Task<void> ImageCache::stop(base::Deadline deadline) {
  Impl& impl = *impl_;
  end_fills();
  impl.stop_signal.notify();
  impl.queue_changed.notify();
  for (;;) {
    const auto seen = impl.fills_changed.version();
    {
      const std::lock_guard lock(impl.mutex);
      if (impl.fills.empty()) break;
    }
    if (!co_await impl.fills_changed.wait_past(seen, deadline)) break;
  }
  co_await impl.background.join(deadline);
  co_await impl.jobs.join(deadline);
  if (auto written = co_await flush(); !written) {
    base::log::error("image_cache", nullptr, "{}", written.error().message);
  }
}

}  // namespace imagecache::image_cache
