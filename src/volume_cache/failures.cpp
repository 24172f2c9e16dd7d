// Messages: what a project is told of a volume's failure that came after the request was answered.
#include <fmt/format.h>

#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

/// Of cinder.message.message_field.Detail, those that happen here.
struct Detail {
  std::string_view id;
  std::string_view text;
};

constexpr Detail unknown{"001", "An unknown error occurred."};
constexpr Detail no_backend{"003", "Could not find any available weighted backend."};
constexpr Detail upload_failed{"004", "Failed to upload volume to image at backend."};
constexpr Detail no_room_for_image{"007", "Image used for creating volume exceeds available space."};
constexpr Detail extend_failed{"010", "Volume Driver failed to extend volume."};
constexpr Detail create_failed{"012", "Driver failed to create the volume."};

std::string_view words(FailedAction action) {
  switch (action) {
    case FailedAction::schedule:
      return "schedule allocate volume";
    case FailedAction::copy_volume_to_image:
      return "copy volume to image";
    case FailedAction::copy_image_to_volume:
      return "copy image to volume";
    case FailedAction::extend:
      return "extend volume";
    case FailedAction::create:
      return "create volume from backend storage";
  }
  return "unknown action";
}

Detail detail_of(FailedAction action, Errc code) {
  switch (action) {
    case FailedAction::schedule:
      return no_backend;
    case FailedAction::copy_volume_to_image:
      return upload_failed;
    case FailedAction::copy_image_to_volume:
      return code == Errc::no_space ? no_room_for_image : unknown;
    case FailedAction::extend:
      return extend_failed;
    case FailedAction::create:
      return create_failed;
  }
  return unknown;
}

/// The reason itself is for the owner where it is about his image or his request; what is wrong with our storage is for
/// the operator, in the log.
bool is_for_the_owner(Errc code) {
  return code == Errc::invalid_argument || code == Errc::unacceptable_image || code == Errc::quota_exceeded ||
         code == Errc::forbidden || code == Errc::not_found || code == Errc::corrupt;
}

}  // namespace

Task<void> VolumeCache::Impl::tell_owner(Volume volume, base::RequestContext context, FailedAction action,
                                         Error error) {
  if (!volume.counts_quota) co_return;
  const Detail detail = detail_of(action, error.code);
  const base::WallTime now = clock.now();
  catalog::Message message{.id = base::new_uuid(),
                           .project_id = volume.project_id,
                           .request_id = context.request_id,
                           .resource_type = "VOLUME",
                           .resource_id = volume.id,
                           .action_id = fmt::format("{:03}", static_cast<int>(action)),
                           .detail_id = std::string(detail.id),
                           .text = fmt::format("{}:{}", words(action), detail.text),
                           .created_at = now,
                           .expires_at = now + options.message_ttl};
  if (is_for_the_owner(error.code)) message.text += " (" + error.message + ")";
  auto write = [message = std::move(message)](Catalog& to) { return to.add_message(message); };
  if (Result<void> written = co_await in_catalog(std::move(write)); !written) {
    base::log::warning(room_name, &context, "volume {}: its project cannot be told why it failed: {}", volume.id,
                       written.error().message);
  }
}

}  // namespace imagecache::volume_cache
