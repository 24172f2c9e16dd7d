#include "origin/image_json.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::origin {
namespace {

using Json = nlohmann::json;

/// The base properties of Glance's image schema and what its API adds; everything else is the image's own.
constexpr std::array<std::string_view, 25> standard_keys = {
    "id",        "name",       "status",    "disk_format",  "container_format", "size",          "virtual_size",
    "checksum",  "owner",      "min_disk",  "os_hash_algo", "min_ram",          "os_hash_value", "updated_at",
    "tags",      "self",       "file",      "created_at",   "visibility",       "schema",        "stores",
    "locations", "direct_url", "protected", "os_hidden"};

std::string text_of(const Json& image, const char* key) {
  const auto found = image.find(key);
  if (found == image.end() || !found->is_string()) return "";
  return found->get_ref<const std::string&>();
}

/// Absent and null are no number; what is there and is neither is an answer that makes no sense.
Result<std::optional<std::uint64_t>> number_of(const Json& image, const char* key) {
  const auto found = image.find(key);
  if (found == image.end() || found->is_null()) return std::nullopt;
  if (!found->is_number_unsigned()) {
    return fail(Errc::unavailable, std::string("its \"") + key + "\" is not a whole number");
  }
  return found->get<std::uint64_t>();
}

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_algorithm(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; });
}

Result<ImageInfo> read_image(const Json& image, const std::string& image_id) {
  if (!image.is_object()) return fail(Errc::unavailable, "it is not a JSON object");
  ImageInfo info;
  info.id = text_of(image, "id");
  if (base::to_lower(info.id) != base::to_lower(image_id)) {
    return fail(Errc::unavailable, info.id.empty() ? "it names no image id" : "it is of another image, " + info.id);
  }
  info.name = text_of(image, "name");
  info.status = text_of(image, "status");
  if (info.status.empty()) return fail(Errc::unavailable, "it names no status");
  info.disk_format = text_of(image, "disk_format");
  info.container_format = text_of(image, "container_format");
  IMAGECACHE_TRY(info.size_bytes, number_of(image, "size"));
  IMAGECACHE_TRY(info.virtual_size_bytes, number_of(image, "virtual_size"));
  IMAGECACHE_TRY(const auto min_disk, number_of(image, "min_disk"));
  IMAGECACHE_TRY(const auto min_ram, number_of(image, "min_ram"));
  info.min_disk_gb = min_disk.value_or(0);
  info.min_ram_mb = min_ram.value_or(0);
  info.checksum = base::to_lower(text_of(image, "checksum"));
  info.os_hash_algo = base::to_lower(text_of(image, "os_hash_algo"));
  info.os_hash_value = base::to_lower(text_of(image, "os_hash_value"));
  if (!is_hex(info.checksum) || !is_hex(info.os_hash_value) || !is_algorithm(info.os_hash_algo)) {
    return fail(Errc::unavailable, "its checksum or os_hash_value is not hexadecimal");
  }
  info.updated_at = text_of(image, "updated_at");
  info.owner = text_of(image, "owner");
  info.visibility = text_of(image, "visibility");
  for (const auto& [key, value] : image.items()) {
    if (value.is_string() && std::ranges::find(standard_keys, key) == standard_keys.end()) {
      info.properties.emplace(key, value.get_ref<const std::string&>());
    }
  }
  return info;
}

}  // namespace

Result<ImageInfo> parse_image_json(std::string_view text, const std::string& image_id) {
  try {
    const Json image = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (image.is_discarded()) return fail(Errc::unavailable, "it is not JSON");
    return read_image(image, image_id);
  } catch (const std::exception& error) {
    return fail(Errc::unavailable, std::string("it cannot be read as JSON: ") + error.what());
  }
}

Result<std::vector<std::string>> parse_image_ids(std::string_view text) {
  const Json list = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto images = list.is_object() ? list.find("images") : list.end();
  if (!list.is_object() || images == list.end() || !images->is_array())
    return fail(Errc::unavailable, "it is not a list of images");
  std::vector<std::string> ids;
  ids.reserve(images->size());
  for (const Json& image : *images) {
    const std::string id = image.is_object() ? text_of(image, "id") : std::string();
    if (!base::is_safe_name(id)) return fail(Errc::unavailable, "its list has an image without an id");
    ids.push_back(id);
  }
  return ids;
}

std::string ImageInfo::content_key() const {
  // Two images of one MD5 or SHA-1 are easily made, so these name no content.
  const bool strong = os_hash_algo != "md5" && os_hash_algo != "sha1";
  if (strong && !os_hash_algo.empty() && !os_hash_value.empty()) return os_hash_algo + ":" + os_hash_value;
  return id + "@" + updated_at;
}

}  // namespace imagecache::origin
