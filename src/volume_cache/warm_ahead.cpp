// Images that the operator wants kept warm: by id, or by a tag or property at the origin. One after the other, and only
// into room that is free: who is ahead of every request puts out nothing that a request has brought.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

// A build that failed is tried again after two intervals, then four, eight …
constexpr unsigned most_doublings = 20;
constexpr std::chrono::hours longest_wait{24};

bool is_between(unsigned hour, unsigned from, unsigned until) {
  return from <= until ? hour >= from && hour < until : hour >= from || hour < until;
}

}  // namespace

Task<Result<std::vector<std::string>>> VolumeCache::Impl::images_to_warm(const base::RequestContext& context) {
  std::vector<std::string> wanted = options.warm_images;
  for (const origin::ImageMark& mark : options.warm_marks) {
    IMAGECACHE_CO_TRY(std::vector<std::string> marked, co_await images.find_marked(mark, options.warm_max, context));
    for (std::string& id : marked) {
      if (std::ranges::find(wanted, id) == wanted.end()) wanted.push_back(std::move(id));
    }
  }
  if (wanted.size() > options.warm_max) wanted.resize(options.warm_max);
  co_return wanted;
}

std::vector<std::pair<Backend*, std::string>> VolumeCache::Impl::places_to_warm() const {
  std::vector<std::pair<Backend*, std::string>> places;
  for (const auto& of : backends) {
    if (!keeps_image_volumes(*of)) continue;
    std::set<std::string> pools = index.pools(of->options().name);
    if (pools.size() > 1) pools.erase("");
    for (const std::string& one : pools) places.emplace_back(of.get(), one);
  }
  return places;
}

Task<std::string> VolumeCache::Impl::lack_of_room(Backend& of, const std::string& in_pool, std::uint64_t bytes) {
  const BackendOptions& place = of.options();
  const std::uint64_t size_gb = std::max<std::uint64_t>(base::to_gib_ceil(bytes), 1);
  const ImageIndex::Taken taken = index.taken(place_of(place.name, in_pool));
  if (!limits_of(place, options.high_percent).hold(taken.count + 1, taken.size_gb + size_gb))
    co_return "there is no room left in the backend's limits (image_volume_high_percent of them)";
  auto ask = [project = options.internal_project_id](Catalog& from) { return from.quota(project); };
  const auto quota = co_await in_catalog(std::move(ask));
  if (!quota) co_return quota.error().message;
  const auto fits = [&](const std::string& resource, std::uint64_t more) {
    const auto found = quota->find(resource);
    return found == quota->end() || found->second.limit < 0 ||
           found->second.in_use + found->second.reserved + more <= static_cast<std::uint64_t>(found->second.limit);
  };
  const std::string& type = place.volume_backend_name;
  if (!fits("volumes", 1) || !fits("gigabytes", size_gb) || !fits("volumes_" + type, 1) ||
      !fits("gigabytes_" + type, size_gb))
    co_return "there is no room left in the internal tenant's quota";
  const Result<VolumeStats> stats = co_await of.get_volume_stats();
  if (!stats) co_return stats.error().message;
  // A backend that cannot say how large it is says nothing of what is free.
  if (stats->total_bytes != 0 && stats->free_bytes < bytes)
    co_return fmt::format("the backend has {} free, and it may take {}", base::format_bytes(stats->free_bytes),
                          base::format_bytes(bytes));
  co_return "";
}

Task<void> VolumeCache::Impl::warm_image(std::string image_id, base::RequestContext context) {
  const Result<image_cache::Admission> admitted = co_await images.admit(image_id, context);
  std::string obstacle;
  if (!admitted) {
    obstacle = admitted.error().message;
  } else if (admitted->info.status != "active") {
    obstacle = fmt::format("image {} is not active", image_id);
  } else if (options.verify_signatures) {
    if (Result<void> plain = check_unsigned(admitted->info); !plain) obstacle = plain.error().message;
  }
  for (const auto& [of, of_pool] : places_to_warm()) {
    if (!check_open()) co_return;
    const std::string name = place_of(of->options().name, of_pool);
    std::string problem = obstacle;
    std::string there;
    bool failed = false;
    if (problem.empty()) {
      const origin::ImageInfo& image = admitted->info;
      const std::string key = key_of(image);
      {
        const std::lock_guard lock(mutex);
        if (builds.contains({name, key})) continue;
      }
      const BasePtr known = index.find(name, key);
      if (known && index.state(known) == Base::State::ready) {
        there = known->volume_id;
      } else {
        {
          const std::lock_guard lock(mutex);
          const Warm& last = warm[{image_id, name}];
          if (last.failures != 0 && last.updated_at == image.updated_at && clock.now() < last.retry_at) continue;
        }
        // Before its bytes are fetched; the build looks again once it knows the disk's real size.
        const std::uint64_t bytes = image.virtual_size_bytes.value_or(image.size_bytes.value_or(0));
        problem = co_await lack_of_room(*of, of_pool, bytes);
        if (problem.empty()) {
          Wanted wanted{.image = image,
                        .backend = of,
                        .pool = of_pool,
                        .size_gb = std::numeric_limits<std::uint64_t>::max(),
                        .context = context,
                        .ahead = true};
          const Result<Source> source = co_await take_source(std::move(wanted), {}, create_deadline(), nullptr);
          failed = !source || !source->image_volume;
          if (failed) {
            problem = source ? source->refusal : source.error().message;
          } else {
            ++counters.image_volumes_warmed;
            there = source->image_volume->volume_id;
            index.release(source->image_volume, nullptr);
          }
        }
      }
    }
    bool is_new = false;
    {
      const std::lock_guard lock(mutex);
      Warm& state = warm[{image_id, name}];
      is_new = !problem.empty() && state.problem.empty();
      if (!there.empty()) state = {.image_volume_id = there};
      state.problem = problem;
      if (failed) {
        if (state.updated_at != admitted->info.updated_at) state.failures = 0;
        state.updated_at = admitted->info.updated_at;
        const auto wait = options.warm_interval * (std::int64_t{2} << std::min(state.failures++, most_doublings));
        state.retry_at = clock.now() + std::min<std::chrono::milliseconds>(wait, longest_wait);
      }
    }
    if (is_new)
      base::log::warning(room_name, &context, "image {} is to be kept warm on {}, and is not: {}", image_id,
                         of->options().host_and_pool(of_pool), problem);
  }
}

Task<void> VolumeCache::Impl::warm_ahead() {
  const auto hours = std::chrono::floor<std::chrono::hours>(clock.now()).time_since_epoch().count() % 24;
  if (!is_between(static_cast<unsigned>(hours), options.warm_from_hour, options.warm_until_hour)) co_return;
  const auto context = co_await images.service_context(base::internal_context());
  const auto wanted = context ? co_await images_to_warm(*context) : std::unexpected(context.error());
  if (!wanted) {
    base::log::warning(room_name, nullptr, "the images to be kept warm cannot be asked for: {}",
                       wanted.error().message);
    co_return;
  }
  {
    const std::lock_guard lock(mutex);
    std::erase_if(warm, [&](const auto& one) { return std::ranges::find(*wanted, one.first.first) == wanted->end(); });
  }
  for (const std::string& image_id : *wanted) {
    if (!check_open()) co_return;
    co_await warm_image(image_id, *context);
  }
  const std::lock_guard lock(mutex);
  warm_round_ended = true;
}

base::Task<void> VolumeCache::warm_ahead() {
  co_await impl_->warm_ahead();
}

}  // namespace imagecache::volume_cache
