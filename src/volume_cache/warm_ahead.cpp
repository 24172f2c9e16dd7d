// Images that the operator wants kept warm: by id, or by a tag or property at the origin. One after the other, and only
// into room that is free: who is ahead of every request puts out nothing that a request has brought.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

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

Task<bool> VolumeCache::Impl::has_room(const Backend& of, std::uint64_t size_gb) {
  const BackendOptions& place = of.options();
  const ImageIndex::Taken taken = index.taken(place.name);
  const std::uint64_t max_count = place.image_volume_cache_max_count,
                      max_size_gb = place.image_volume_cache_max_size_gb;
  if (max_count != 0 && taken.count + 1 > max_count) co_return false;
  if (max_size_gb != 0 && taken.size_gb + size_gb > max_size_gb) co_return false;
  auto ask = [project = options.internal_project_id](Catalog& from) { return from.quota(project); };
  const auto quota = co_await in_catalog(std::move(ask));
  if (!quota) co_return false;
  const auto fits = [&](const std::string& resource, std::uint64_t more) {
    const auto found = quota->find(resource);
    return found == quota->end() || found->second.limit < 0 ||
           found->second.in_use + found->second.reserved + more <= static_cast<std::uint64_t>(found->second.limit);
  };
  const std::string& type = place.volume_backend_name;
  co_return fits("volumes", 1) && fits("gigabytes", size_gb) && fits("volumes_" + type, 1) &&
      fits("gigabytes_" + type, size_gb);
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
  for (const auto& of : backends) {
    if (!check_open()) co_return;
    if (!keeps_image_volumes(*of)) continue;
    const std::string& name = of->options().name;
    std::string problem = obstacle;
    if (problem.empty()) {
      const origin::ImageInfo& image = admitted->info;
      const std::string key = key_of(image);
      {
        const std::lock_guard lock(mutex);
        if (builds.contains({name, key})) continue;
      }
      if (const BasePtr there = index.find(name, key); there && index.state(there) == Base::State::ready) {
        const std::lock_guard lock(mutex);
        warm_failed.erase({image_id, name});
        continue;
      }
      // Before its bytes are fetched; the build looks again once it knows the disk's real size.
      const std::uint64_t bytes = image.virtual_size_bytes.value_or(image.size_bytes.value_or(0));
      if (co_await has_room(*of, std::max<std::uint64_t>(base::to_gib_ceil(bytes), 1))) {
        const Wanted wanted{.image = image,
                            .backend = of.get(),
                            .size_gb = std::numeric_limits<std::uint64_t>::max(),
                            .context = context,
                            .ahead = true};
        Result<Source> source = co_await take_source(wanted, {}, create_deadline(), nullptr);
        if (source && source->image_volume) index.release(source->image_volume, nullptr);
        if (source && source->image_volume) ++counters.image_volumes_warmed;
        if (!source) problem = source.error().message;
        if (source && !source->image_volume) problem = source->refusal;
      } else {
        problem = "there is no room left in the backend's limits or the internal tenant's quota";
      }
    }
    bool is_new = false;
    {
      const std::lock_guard lock(mutex);
      if (problem.empty()) {
        warm_failed.erase({image_id, name});
      } else {
        is_new = warm_failed.insert({image_id, name}).second;
      }
    }
    if (is_new)
      base::log::warning(room_name, &context, "image {} is to be kept warm on {}, and is not: {}", image_id, name,
                         problem);
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
  for (const std::string& image_id : *wanted) {
    if (!check_open()) co_return;
    co_await warm_image(image_id, *context);
  }
}

base::Task<void> VolumeCache::warm_ahead() {
  co_await impl_->warm_ahead();
}

}  // namespace imagecache::volume_cache
