#include "volume_cache/checks.hpp"

#include <fmt/format.h>

#include "base/text.hpp"
#include "base/try.hpp"
#include "convert/inspect.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr std::uint64_t max_size_gb = (std::uint64_t{1} << 63) / base::gib - 1;

}  // namespace

Result<void> check_request(const CreateRequest& request) {
  if (!base::is_uuid(request.volume_id))
    return fail(Errc::invalid_argument, fmt::format("volume id \"{}\" is not a UUID", request.volume_id));
  if (request.size_gb == 0 || request.size_gb > max_size_gb)
    return fail(Errc::invalid_argument,
                fmt::format("Invalid volume size provided for create request: {} (size argument must be an integer (or "
                            "string representation of an integer) and greater than zero).",
                            request.size_gb));
  if (!request.name.empty() && !base::is_safe_name(request.name))
    return fail(Errc::invalid_argument,
                fmt::format("volume {}: \"{}\" cannot be a name on a backend: letters, digits, '.', '_' and '-', no "
                            "leading '.', at most 200",
                            request.volume_id, request.name));
  return {};
}

Result<void> check_image(const origin::ImageInfo& image, std::uint64_t size_gb) {
  if (image.status != "active") return fail(Errc::invalid_argument, fmt::format("Image {} is not active.", image.id));
  if (const std::uint64_t image_gb = base::to_gib_ceil(image.size_bytes.value_or(0)); image_gb > size_gb)
    return fail(Errc::invalid_argument,
                fmt::format("Size of specified image {}GB is larger than volume size {}GB.", image_gb, size_gb));
  if (size_gb < image.min_disk_gb)
    return fail(Errc::invalid_argument,
                fmt::format("Volume size {}GB cannot be smaller than the image minDisk size {}GB.", size_gb,
                            image.min_disk_gb));
  if (image.virtual_size_bytes) return convert::check_fits(image.id, *image.virtual_size_bytes, size_gb);
  return {};
}

Result<void> check_unsigned(const origin::ImageInfo& image) {
  constexpr std::string_view prefix = "img_signature";
  const auto first = image.properties.lower_bound(std::string(prefix));
  if (first == image.properties.end() || !first->first.starts_with(prefix)) return {};
  return fail(Errc::unsupported,
              fmt::format("Image {} is signed ({}), and signatures cannot be verified here for want of a key manager. "
                          "Let Cinder make the volume, or set verify_glance_signatures = disabled to do without.",
                          image.id, first->first));
}

std::map<std::string, std::string> image_metadata(const origin::ImageInfo& image) {
  std::map<std::string, std::string> metadata = image.properties;
  const auto put = [&metadata](const char* key, const std::string& value) {
    if (!value.empty()) metadata[key] = value;
  };
  put("image_id", image.id);
  put("image_name", image.name);
  put("checksum", image.checksum);
  put("container_format", image.container_format);
  put("disk_format", image.disk_format);
  metadata["min_disk"] = std::to_string(image.min_disk_gb);
  metadata["min_ram"] = std::to_string(image.min_ram_mb);
  if (image.size_bytes) metadata["size"] = std::to_string(*image.size_bytes);
  return metadata;
}

std::string image_volume_key(const origin::ImageInfo& image, bool by_updated_at) {
  std::string key = by_updated_at ? image.id + "@" + image.updated_at : image.content_key();
  return image.disk_format.empty() ? key : key + "#" + image.disk_format;
}

std::string fill_template(std::string_view name_template, std::string_view id) {
  const std::size_t place = name_template.find("%s");
  if (place == std::string_view::npos) return std::string(name_template) + std::string(id);
  return fmt::format("{}{}{}", name_template.substr(0, place), id, name_template.substr(place + 2));
}

std::optional<std::string> id_in_name(std::string_view name_template, std::string_view name) {
  const std::size_t place = name_template.find("%s");
  const std::string_view before = name_template.substr(0, place);
  const std::string_view after = place == std::string_view::npos ? "" : name_template.substr(place + 2);
  if (name.size() < before.size() + after.size() || !name.starts_with(before) || !name.ends_with(after))
    return std::nullopt;
  const std::string_view id = name.substr(before.size(), name.size() - before.size() - after.size());
  if (!base::is_uuid(id)) return std::nullopt;
  return std::string(id);
}

std::string volume_not_found(std::string_view id) {
  return fmt::format("Volume {} could not be found.", id);
}

}  // namespace imagecache::volume_cache
