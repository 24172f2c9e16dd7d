// What runs on its own, and its end.

#include "base/log.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

void ImageCache::start(const base::Executor& executor) {
  impl_->executor = executor;
  impl_->background.spawn(executor, impl_->flush_loop());
  impl_->background.spawn(executor, impl_->clean_loop());
  for (const auto& id : queued()) impl_->background.spawn(executor, impl_->prefetch(id, base::internal_context()));
}

base::Task<void> ImageCache::Impl::flush_loop() {
  for (;;) {
    const auto seen = stop_signal.version();
    {
      const std::lock_guard lock(mutex);
      if (stopping) co_return;
    }
    co_await stop_signal.wait_past(seen, base::in(options.flush_interval));
    auto work = [this] { return flush_now(); };
    const auto written = co_await base::offload(pool, work);
    if (!written) base::log::warning("image_cache", nullptr, "{}", written.error().message);
  }
}

base::Task<void> ImageCache::Impl::clean_loop() {
  for (;;) {
    const auto seen = stop_signal.version();
    {
      const std::lock_guard lock(mutex);
      if (stopping) co_return;
    }
    if (co_await stop_signal.wait_past(seen, base::in(options.clean_interval))) continue;
    auto work = [this] { return clean_now(); };
    const auto cleaned = co_await base::offload(pool, work);
    if (!cleaned) base::log::warning("image_cache", nullptr, "{}", cleaned.error().message);
  }
}

void ImageCache::end_fills() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stopping = true;
  for (auto& [id, fill] : impl_->fills) fill->request_stop();
}

base::Task<void> ImageCache::stop(base::Deadline deadline) {
  Impl& impl = *impl_;
  end_fills();
  impl.stop_signal.notify();
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
