// What goes on by itself.
#include "base/log.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

void VolumeCache::start(const base::Executor& executor) {
  Impl& impl = *impl_;
  if (!impl.held_at_start.empty()) impl.group.spawn(executor, impl.resume_imports());
  for (const auto& backend : impl.backends) impl.group.spawn(executor, impl.maintain_loop(backend.get()));
  impl.group.spawn(executor, impl.repeat(&Impl::upkeep, impl.options.upkeep_interval));
  if (impl.options.poll_interval.count() > 0)
    impl.group.spawn(executor, impl.repeat(&Impl::poll, impl.options.poll_interval));
  if (impl.warms_ahead()) impl.group.spawn(executor, impl.repeat(&Impl::warm_ahead, impl.options.warm_interval));
}

Task<bool> VolumeCache::Impl::pause(std::chrono::milliseconds time) {
  const Deadline until = base::in(time);
  for (;;) {
    const std::uint64_t seen = stop_signal.version();
    if (!check_open()) co_return false;
    if (!co_await stop_signal.wait_past(seen, until)) co_return true;
  }
}

Task<void> VolumeCache::Impl::repeat(Round round, std::chrono::milliseconds interval) {
  while (co_await pause(interval)) co_await (this->*round)();
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
