// What goes on by itself.
#include "base/log.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

void VolumeCache::start(const base::Executor& executor) {
  for (const auto& backend : impl_->backends) impl_->group.spawn(executor, impl_->maintain_loop(backend.get()));
}

Task<bool> VolumeCache::Impl::pause(std::chrono::milliseconds time) {
  const Deadline until = base::in(time);
  for (;;) {
    const std::uint64_t seen = stop_signal.version();
    if (!check_open()) co_return false;
    if (!co_await stop_signal.wait_past(seen, until)) co_return true;
  }
}

// A backend that is away stays away for a while: that is said once.
Task<void> VolumeCache::Impl::maintain_loop(Backend* of) {
  std::string last_problem;
  while (co_await pause(options.maintain_interval)) {
    const Result<void> done = co_await of->maintain();
    const std::string problem = done ? "" : done.error().message;
    if (problem != last_problem && !done)
      base::log::warning(room_name, nullptr, "backend {}: what was put off cannot be finished now: {}",
                         of->options().name, problem);
    last_problem = problem;
  }
}

}  // namespace imagecache::volume_cache
