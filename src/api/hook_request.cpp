#include "api/hook_request.hpp"

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

Result<std::string> needed(const JsonIn& object, std::string_view key) {
  IMAGECACHE_TRY(auto value, string_member(object, key, 255));
  if (!value || value->empty()) {
    return fail(Errc::invalid_argument, "'" + std::string(key) + "' is a required property");
  }
  return std::move(*value);
}

Result<std::string> optional_text(const JsonIn& object, std::string_view key) {
  IMAGECACHE_TRY(auto value, string_member(object, key, 255));
  return std::move(value).value_or("");
}

/// None where anything is missing: it says nothing then.
Result<std::optional<volume_cache::ImageSeen>> image_seen(const JsonIn& object) {
  volume_cache::ImageSeen seen;
  IMAGECACHE_TRY(seen.updated_at, optional_text(object, "image_updated_at"));
  IMAGECACHE_TRY(seen.checksum, optional_text(object, "image_checksum"));
  const JsonIn* const size = member(object, "image_size");
  if (size == nullptr || seen.updated_at.empty() || seen.checksum.empty()) return std::nullopt;
  if (!size->is_number_unsigned())
    return fail(Errc::invalid_argument, "'image_size' is the image's size in bytes, a whole number");
  seen.size_bytes = size->get<std::uint64_t>();
  return seen;
}

}  // namespace

Result<HookRequest> parse_hook_request(std::string_view body) {
  IMAGECACHE_TRY(const JsonIn json, parse_object(body));
  HookRequest request;
  IMAGECACHE_TRY(request.backend, needed(json, "backend"));
  IMAGECACHE_TRY(request.name, needed(json, "name"));
  IMAGECACHE_TRY(request.image_id, needed(json, "image_id"));
  IMAGECACHE_TRY(request.pool, optional_text(json, "pool"));
  if (request.pool.find('#') != std::string::npos)
    return fail(Errc::invalid_argument, "pool '" + request.pool + "': what is behind the '#' of Cinder's host");
  IMAGECACHE_TRY(request.volume_type, optional_text(json, "volume_type"));
  IMAGECACHE_TRY(request.project_id, optional_text(json, "project_id"));
  IMAGECACHE_TRY(request.user_id, optional_text(json, "user_id"));
  IMAGECACHE_TRY(request.display_name, optional_text(json, "display_name"));
  IMAGECACHE_TRY(const auto encrypted, bool_member(json, "encrypted"));
  request.encrypted = encrypted.value_or(false);
  IMAGECACHE_TRY(const auto size, size_member(json, "size_gb"));
  if (!size) return fail(Errc::invalid_argument, "'size_gb' is a required property");
  request.size_gb = *size;
  IMAGECACHE_TRY(const auto deadline, size_member(json, "deadline_ms"));
  if (deadline) request.deadline = std::chrono::milliseconds(*deadline);
  IMAGECACHE_TRY(request.image_seen, image_seen(json));
  if (!base::is_safe_name(request.name)) {
    return fail(Errc::invalid_argument, "name '" + request.name +
                                            "': a volume's name has 1 to 200 letters, digits, dots, dashes and "
                                            "underscores, and does not begin with a dot");
  }
  if (!base::is_uuid(request.image_id)) {
    return fail(Errc::invalid_argument, "image_id '" + request.image_id + "': it must be a UUID");
  }
  request.image_id = base::to_lower(request.image_id);
  return request;
}

}  // namespace imagecache::api
