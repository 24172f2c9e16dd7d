// What listeners on the message bus are told of volumes and image-volumes, where Cinder would tell it.
#include "events/volume_events.hpp"
#include "volume_cache/backend_type.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

Task<void> VolumeCache::Impl::tell(std::string suffix, Volume volume, base::RequestContext context) {
  // What Cinder counts, Cinder tells.
  if (!notifier.enabled() || !volume.counts_quota) co_return;
  auto look = [type = volume.volume_type](Catalog& from) { return from.find_volume_type(type); };
  const Result<std::optional<catalog::VolumeType>> type = co_await in_catalog(std::move(look));
  const auto known = [](base::WallTime time) { return time == base::WallTime{} ? std::nullopt : std::optional(time); };
  const bool is_creating = suffix.starts_with("create.");
  const events::VolumeUsage usage{
      .volume_id = volume.id,
      .project_id = volume.project_id,
      .user_id = volume.user_id,
      .host = volume.host,
      .availability_zone = volume.availability_zone,
      .volume_type_id = type && *type ? (*type)->id : id_of_backend_type(volume.volume_type),
      .display_name = volume.display_name,
      .status = volume.status,
      .size_gb = volume.size_gb,
      .created_at = known(volume.created_at),
      .launched_at = volume.status == "creating" ? std::nullopt : known(volume.updated_at),
      .metadata = std::move(volume.metadata),
      .image_metadata = std::move(volume.image_metadata)};
  // cinder.volume.flows.manager.create_volume says the volume's host, cinder.volume.manager its own.
  const std::string publisher = is_creating ? volume.host : volume.host.substr(0, volume.host.find('#'));
  notifier.notify(events::volume_event(suffix, usage, publisher, std::move(context), clock.now()));
}

Task<void> VolumeCache::Impl::tell_of(std::string suffix, std::string id, base::RequestContext context) {
  if (!notifier.enabled()) co_return;
  Result<Volume> volume = co_await find_volume(std::move(id));
  if (volume) co_await tell(std::move(suffix), std::move(*volume), std::move(context));
}

void VolumeCache::Impl::tell_of_cache(std::string_view action, const std::string& image_id,
                                      const std::string& host_and_pool, const base::RequestContext& context,
                                      const std::map<std::string, std::string>& more) {
  if (!notifier.enabled()) return;
  notifier.notify(events::image_volume_cache_event(action, image_id, host_and_pool, options.host, context, more));
}

}  // namespace imagecache::volume_cache
