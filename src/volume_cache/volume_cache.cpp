#include "volume_cache/volume_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

/// For what has been told to stop: with the drain_timeout it is within the time that systemd gives a stop.
constexpr std::chrono::seconds last_join{20};

}  // namespace

VolumeCache::Impl::Impl(Options options_, Catalog& catalog_, image_cache::ImageCache& images_,
                        std::vector<std::unique_ptr<Backend>> backends_, base::BlockingPool& pool_,
                        const base::Clock& clock_, events::Counters& counters_, events::Notifier& notifier_)
    : options(std::move(options_)),
      catalog(catalog_),
      images(images_),
      backends(std::move(backends_)),
      pool(pool_),
      clock(clock_),
      counters(counters_),
      notifier(notifier_),
      last_answers(options.head_start_entries),
      build_slots(std::max(1U, options.max_conversions)),
      convert_pool({.name = "convert", .threads = std::max(1U, options.max_conversions), .queue_limit = 1024}),
      transfer_slots(std::max(1U, options.max_volume_copies)),
      transfer_pool({.name = "transfer", .threads = std::max(1U, options.max_volume_copies), .queue_limit = 1024}) {}

Result<void> VolumeCache::Impl::check_open() const {
  const std::lock_guard lock(mutex);
  if (stopping) return fail(Errc::unavailable, "the service is stopping, try again later");
  return {};
}

Backend* VolumeCache::Impl::backend(const std::string& name) const {
  for (const auto& candidate : backends) {
    if (candidate->options().name == name) return candidate.get();
  }
  return nullptr;
}

bool VolumeCache::Impl::keeps_image_volumes(const Backend& of) const {
  return of.options().image_volume_cache_enabled && of.capabilities().clone != CloneSupport::none &&
         !options.internal_project_id.empty() && !options.internal_user_id.empty();
}

Task<Result<Volume>> VolumeCache::Impl::find_volume(std::string id) {
  auto call = [id](Catalog& from) { return from.find_volume(id); };
  IMAGECACHE_CO_TRY(std::optional<Volume> found, co_await in_catalog(std::move(call)));
  if (!found) co_return fail(Errc::not_found, volume_not_found(id));
  co_return std::move(*found);
}

Task<Result<void>> VolumeCache::Impl::check_no_image_volume(std::string id) {
  // Of the catalog, not of the index, which does not have one that is just being finished.
  auto look = [id](Catalog& from) { return from.find_image_volume_by_id(id); };
  IMAGECACHE_CO_TRY(const std::optional<catalog::ImageVolume> row, co_await in_catalog(std::move(look)));
  if (!row) co_return Result<void>();
  co_return fail(Errc::conflict, fmt::format("Volume {} is an image-volume, which may be evicted at any time: make a "
                                             "volume from image {} instead.",
                                             id, row->image_id));
}

VolumeCache::VolumeCache(Options options, catalog::Catalog& catalog, image_cache::ImageCache& images,
                         std::vector<std::unique_ptr<Backend>> backends, base::BlockingPool& pool,
                         const base::Clock& clock, events::Counters& counters, events::Notifier& notifier)
    : impl_(std::make_unique<Impl>(std::move(options), catalog, images, std::move(backends), pool, clock, counters,
                                   notifier)) {}

VolumeCache::~VolumeCache() = default;

Result<void> VolumeCache::recover() {
  return impl_->recover();
}

std::vector<Stray> VolumeCache::strays() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->strays;
}

std::uint64_t VolumeCache::living_clones(const std::string& volume_id) const {
  const BasePtr found = impl_->index.find_by_id(volume_id);
  return found ? impl_->index.living_clones(found) : 0;
}

base::Task<void> VolumeCache::flush() {
  co_await impl_->flush();
}

const std::vector<std::unique_ptr<Backend>>& VolumeCache::backends() const {
  return impl_->backends;
}

const Backend* VolumeCache::find_backend(const std::string& name) const {
  return impl_->backend(name);
}

catalog::Catalog& VolumeCache::catalog() {
  return impl_->catalog;
}

base::Task<Result<void>> VolumeCache::check_no_image_volume(std::string volume_id) {
  co_return co_await impl_->check_no_image_volume(std::move(volume_id));
}

base::Task<Result<void>> VolumeCache::remove(std::string volume_id) {
  co_return co_await impl_->detached(impl_->remove(std::move(volume_id)));
}

base::Task<Result<void>> VolumeCache::cancel(std::string volume_id, std::string not_ours) {
  co_return co_await impl_->detached(impl_->cancel(std::move(volume_id), std::move(not_ours)));
}

base::Task<Result<void>> VolumeCache::extend(std::string volume_id, std::uint64_t new_size_gb) {
  co_return co_await impl_->detached(impl_->extend(std::move(volume_id), new_size_gb));
}

base::Task<Result<void>> VolumeCache::start_extend(std::string volume_id, std::uint64_t new_size_gb) {
  co_return co_await impl_->detached(impl_->start_extend(std::move(volume_id), new_size_gb));
}

base::Task<Result<void>> VolumeCache::force_remove(std::string volume_id) {
  co_return co_await impl_->detached(impl_->force_remove(std::move(volume_id)));
}

base::Task<Result<void>> VolumeCache::retype(std::string volume_id, catalog::VolumeType new_type) {
  co_return co_await impl_->detached(impl_->retype(std::move(volume_id), std::move(new_type)));
}

base::Task<Result<origin::ImageInfo>> VolumeCache::start_upload(UploadRequest request, base::RequestContext context) {
  co_return co_await impl_->detached(impl_->start_upload(std::move(request), std::move(context)));
}

base::Task<Result<void>> VolumeCache::evict(std::string volume_id) {
  co_return co_await impl_->detached(impl_->evict_by_id(std::move(volume_id)));
}

base::Task<Result<void>> VolumeCache::pin(std::string volume_id, bool pinned) {
  co_return co_await impl_->detached(impl_->pin(std::move(volume_id), pinned));
}

base::Task<Result<ConnectionInfo>> VolumeCache::initialize_connection(std::string volume_id) {
  IMAGECACHE_CO_TRY(const Volume volume, co_await impl_->find_volume(volume_id));
  if (volume.status != "available" && volume.status != "attaching" && volume.status != "in-use")
    co_return fail(Errc::conflict,
                   fmt::format("Volume {} is {}: only one that is available, attaching or in-use can be connected.",
                               volume_id, volume.status));
  Backend* backend = impl_->backend(volume.backend);
  if (backend == nullptr)
    co_return fail(Errc::unavailable,
                   fmt::format("volume {}: its backend {} is not enabled", volume_id, volume.backend));
  co_return co_await backend->initialize_connection(VolumeId{volume.name});
}

base::Task<Result<ModelUpdate>> VolumeCache::model_update(catalog::Volume volume) {
  Backend* backend = impl_->backend(volume.backend);
  if (backend == nullptr)
    co_return fail(Errc::unavailable,
                   fmt::format("volume {}: its backend {} is not enabled", volume.id, volume.backend));
  co_return co_await backend->model_update(VolumeId{volume.name});
}

std::string_view VolumeCache::import_state(const std::string& volume_id) const {
  const BasePtr image_volume = impl_->index.find_by_id(volume_id);
  if (!image_volume) return {};
  switch (impl_->index.import(image_volume)) {
    case Base::Import::copying:
      return "copying";
    case Base::Import::source_kept:
      return "source kept";
    case Base::Import::bad:
      return "bad";
    case Base::Import::none:
      return {};
  }
  return {};
}

base::Task<void> VolumeCache::stop(base::Deadline deadline) {
  std::vector<std::stop_source> unasked;  // nobody waits for them
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    for (const auto& [key, build] : impl_->builds) {
      if (build->ahead) unasked.push_back(build->stop);
    }
  }
  for (std::stop_source& build : unasked) build.request_stop();
  impl_->imports_stop.request_stop();
  impl_->stop_signal.notify();
  if (!co_await impl_->group.join(deadline)) {
    std::vector<std::stop_source> sources;
    {
      const std::lock_guard lock(impl_->mutex);
      for (const auto& [id, creation] : impl_->creations) sources.push_back(creation->stop);
      for (const auto& [key, build] : impl_->builds) sources.push_back(build->stop);
      for (const auto& [id, upload] : impl_->uploads) sources.push_back(upload);
      impl_->stops_work = true;
    }
    base::log::warning(room_name, nullptr, "stopping {} creates, builds and uploads that did not end in time",
                       sources.size());
    for (std::stop_source& source : sources) source.request_stop();
    if (!co_await impl_->group.join(base::in(last_join))) {
      // A storage that answers nothing: its calls cannot be taken back, and their Tasks not be left behind alive.
      base::log::error(room_name, nullptr, "work on the backends does not end; it is left to the next start");
      std::_Exit(EXIT_FAILURE);
    }
  }
  co_await impl_->flush();
}

}  // namespace imagecache::volume_cache
