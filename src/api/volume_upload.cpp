// os-volume_upload_image: an image made of a volume.
#include <algorithm>
#include <array>
#include <utility>

#include "api/volume_actions.hpp"
#include "api/volume_types.hpp"
#include "api/volume_view.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

constexpr Microversion visibility_since{3, 1};
constexpr std::array<std::string_view, 4> visibilities = {"community", "public", "private", "shared"};

Result<volume_cache::UploadRequest> parse(const JsonIn& arguments, const Call& call) {
  volume_cache::UploadRequest request;
  IMAGECACHE_TRY(const auto name, string_member(arguments, "image_name", 255));
  if (!name || name->empty()) return fail(Errc::invalid_argument, "'image_name' is a required property");
  request.image_name = *name;
  IMAGECACHE_TRY(const auto force, bool_member(arguments, "force"));
  request.force = force.value_or(false);
  IMAGECACHE_TRY(const auto disk_format, string_member(arguments, "disk_format", 255));
  if (disk_format) request.disk_format = *disk_format;
  IMAGECACHE_TRY(const auto container_format, string_member(arguments, "container_format", 255));
  if (container_format) request.container_format = *container_format;
  if (call.version < visibility_since) return request;
  IMAGECACHE_TRY(const auto visibility, string_member(arguments, "visibility", 255));
  request.visibility = visibility.value_or("private");
  if (std::ranges::find(visibilities, request.visibility) == visibilities.end()) {
    return fail(Errc::invalid_argument, "Invalid input for field/attribute visibility. Value: " + request.visibility +
                                            ". '" + request.visibility +
                                            "' is not one of ['community', 'public', 'private', 'shared']");
  }
  IMAGECACHE_TRY(const auto is_protected, bool_member(arguments, "protected"));
  request.is_protected = is_protected.value_or(false);
  return request;
}

}  // namespace

base::Task<Reply> upload_image(Call& call, const JsonIn& arguments, const catalog::Volume& volume) {
  auto request = parse(arguments, call);
  if (!request) co_return fault(request.error());
  if (request->visibility == "public") {
    auto refused = refused_by_policy(call, "volume_extension:volume_actions:upload_public", volume.project_id);
    if (refused) co_return std::move(*refused);
  }
  request->volume_id = volume.id;
  // As cinder.volume.api.API.copy_volume_to_image: where it is not enabled, it is not heard.
  request->force = request->force && call.api.options.enable_force_upload;
  auto type = co_await base::offload(
      call.api.pool, [&volumes = call.api.volumes, name = volume.volume_type] { return find_type(volumes, name); });
  if (!type) co_return fault(type.error());
  const volume_cache::UploadRequest asked = *request;
  auto image = co_await call.api.volumes.start_upload(std::move(*request), call.who);
  if (!image) {
    // Whatever keeps the image from being made is a bad request, says Cinder.
    const Errc code = image.error().code;
    if (code == Errc::conflict) co_return fault(400, "Invalid volume: " + image.error().message);
    if (code == Errc::unsupported) co_return fault(400, image.error().message);
    co_return fault(image.error());
  }
  Json view{{"id", volume.id},
            {"updated_at", time_or_null(volume.updated_at)},
            {"status", "uploading"},
            {"display_description", or_null(volume.display_description)},
            {"size", volume.size_gb},
            {"volume_type", *type ? type_view(**type, call.who.is_admin, TypeDetail::updated) : Json(nullptr)},
            {"image_id", image->id},
            {"container_format", image->container_format},
            {"disk_format", image->disk_format},
            {"image_name", image->name}};
  if (call.version >= visibility_since) {
    view["visibility"] = image->visibility;
    view["protected"] = asked.is_protected.value_or(false);
  }
  co_return json_reply(202, Json{{"os-volume_upload_image", std::move(view)}});
}

}  // namespace imagecache::api
